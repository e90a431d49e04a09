// A host of connections without a thread, for tests of the parts of a connection: it has the pools,
// and counts what it is told.
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

  server::ExportQueue& queue_of(const server::Export&) override { std::abort(); }
  void submit(server::ExportQueue&, engine::Io& io) noexcept override { submitted.push_back(&io); }
  void schedule(server::Connection&) override {}
  void wait_for_resources(server::Connection&) override {}
  void note_spent() override {}
  void remove(server::Connection&, std::unique_ptr<server::Transport>) override {}

  // Its address is all that the slots of a connection know of it.
  server::Connection& no_connection() { return reinterpret_cast<server::Connection&>(connection_); }

  std::vector<engine::Io*> submitted;

 private:
  std::byte connection_{};
};

}  // namespace test
