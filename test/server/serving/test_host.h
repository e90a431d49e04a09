// A host of connections without a thread, for tests of connections and their parts: it has the
// pools, and remembers what it is told.
#pragma once

#include <cstddef>
#include <memory>
#include <utility>
#include <vector>

#include "server/config/bounds.h"
#include "server/config/config.h"
#include "server/serving/connection_host.h"

namespace test {

class TestHost final : public server::ConnectionHost {
 public:
  explicit TestHost(const server::Bounds& bounds = server::derive_bounds({}))
      : ConnectionHost(bounds) {}

  server::ExportQueue& queue_of(const server::Export&) override { return *queue; }
  void submit(server::ExportQueue&, engine::Io& io) noexcept override { submitted.push_back(&io); }
  void schedule(server::Connection& connection) override { scheduled.push_back(&connection); }
  void wait_for_resources(server::Connection&) override {}
  void note_ending(server::Connection&) override {}
  void note_spent(server::Connection&) override {}
  void remove(server::Connection&, std::unique_ptr<server::Transport>) override {}

  // Its address is all that the slots of a connection know of it.
  server::Connection& no_connection() { return reinterpret_cast<server::Connection&>(connection_); }

  server::ExportQueue* queue = nullptr;  // of every export; set before there are connections
  std::vector<engine::Io*> submitted;
  std::vector<server::Connection*> scheduled;

 private:
  std::byte connection_{};
};

}  // namespace test
