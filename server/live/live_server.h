// The running server as those see it who change its exports: its workers, and threads for what may
// block. Used on the accepting thread.
#pragma once

#include <cstddef>
#include <functional>
#include <memory>
#include <vector>

#include "engine/blocking_pool.h"
#include "engine/sync_errors.h"
#include "server/base/asio.h"
#include "server/config/bounds.h"
#include "server/serving/worker.h"

namespace server {

// All exports that are backed by one device: an export that has left the table may share it with
// its successor. Never empty.
using ExportGroup = std::vector<std::shared_ptr<Export>>;

struct LiveServer {
  using Step = std::function<void(Worker&, std::size_t index)>;
  // Runs `step` on the thread of each worker, one after the other, and waits for the last.
  Awaitable<void> on_each_worker(const Step& step) const;

  // All of them outlive this; so does io_context the pool, whose work ends there.
  const Bounds& bounds;
  asio::io_context& io_context;
  engine::BlockingPool& pool;
  Workers& workers;
  // Of all devices that the server opens.
  std::shared_ptr<engine::SyncErrors> sync_errors = std::make_shared<engine::SyncErrors>();
};

}  // namespace server
