// The exports of a running server and their way to the workers. Used on the accepting thread;
// changes are coroutines there, one after the other.
#pragma once

#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "engine/blocking_pool.h"
#include "server/asio.h"
#include "server/export.h"
#include "server/export_changes.h"
#include "server/limits.h"
#include "server/worker.h"

namespace server {

class LiveExports {
 public:
  // All of them outlive it; so does io_context the pool, whose work ends there.
  LiveExports(const Limits& limits, asio::io_context& io_context, engine::BlockingPool& pool,
              Workers& workers);
  LiveExports(const LiveExports&) = delete;
  LiveExports& operator=(const LiveExports&) = delete;

  // Before the workers are made. Throws ConfigError or std::runtime_error with a message for
  // people.
  void open(const std::vector<ExportConfig>& configs);
  // For each worker, before it starts.
  void connect(Worker& worker);

  const std::shared_ptr<const ExportTable>& table() const noexcept { return table_; }

  // Makes the exports those that `edit` makes of the present ones. All that is new is opened before
  // anything changes; when that fails, it throws as open() does, and nothing has changed.
  using Configs = std::vector<ExportConfig>;
  using Edit = std::function<Configs(Configs)>;
  Awaitable<ChangedNames> change(Edit edit, Departure departure);

  // Waits until everything acknowledged is durable, of the exports that have left as well. False:
  // not everything is. For the end of the server.
  bool sync_all();

 private:
  class Turn;

  Awaitable<void> wait_for_turn();
  Awaitable<void> check_displaced(const ExportChanges& changes, Departure departure);
  Awaitable<void> publish(ExportChanges& changes, Departure departure);
  using Step = std::function<void(Worker&, std::size_t index)>;
  Awaitable<void> on_each_worker(const Step& step);
  std::vector<std::shared_ptr<Export>> gone() const;

  const Limits& limits_;
  asio::io_context& io_context_;
  engine::BlockingPool& pool_;
  Workers& workers_;
  std::shared_ptr<const ExportTable> table_;
  std::vector<std::weak_ptr<Export>> gone_;  // no longer in the table, perhaps still served
  bool changing_ = false;
  Timer change_over_;  // never expires; cancelled when a change has come to its end
};

}  // namespace server
