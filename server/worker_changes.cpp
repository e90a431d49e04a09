// The part of Worker that follows changes of the exports, and ends connections for them and for the
// end of the server.
#include <algorithm>
#include <iterator>
#include <utility>

#include "server/log.h"
#include "server/worker.h"

namespace server {

void Worker::retire(const std::vector<std::shared_ptr<Export>>& leaving, Departure departure) {
  auto concerned = std::vector<std::shared_ptr<Connection>>{};
  for (const auto& target : leaving) {
    const auto found = queues_.find(target.get());
    if (found == queues_.end()) continue;  // it has left earlier, and its clients, too
    auto* const queue = found->second.get();
    if (!std::exchange(queue->retired, true)) retired_queues_.push_back(queue);
    queue->closing = queue->closing || departure != Departure::keep;
    std::ranges::copy_if(connections_, std::back_inserter(concerned),
                         [&](const auto& connection) { return &connection->queue() == queue; });
  }
  if (departure == Departure::drain) end(concerned);
  if (departure == Departure::now)
    for (const auto& connection : concerned) connection->abandon("its export is gone");
}

void Worker::adopt(std::shared_ptr<const ExportTable> exports, std::vector<LooseQueue> queues) {
  for (auto& queue : queues) {
    const auto* const target = queue.target.get();
    queues_.emplace(target, std::make_unique<ExportQueue>(io_context_, std::move(queue), index_));
  }
  exports_ = std::move(exports);
}

bool Worker::offers(const Export& target) const {
  const auto queue = queues_.find(&target);
  return queue != queues_.end() && !queue->second->closing;
}

std::size_t Worker::connection_count(const Export& target) const {
  const auto queue = queues_.find(&target);
  return queue == queues_.end() ? 0 : queue->second->connection_count;
}

void Worker::release_retired() {
  std::erase_if(retired_queues_, [this](ExportQueue* queue) {
    // As long as the table has it, a handshake may choose it.
    if (exports_->find(queue->target->name()) == queue->target) return false;
    if (queue->connection_count > 0) return false;
    if (queue->waiting) queue->wakeup.cancel();  // its handler brings the next turn
    if (!queue->is_quiet()) return false;
    auto loose = LooseQueue{.target = std::move(queue->target),
                            .device = std::move(queue->device),
                            .queue = std::move(queue->queue)};
    queues_.erase(loose.target.get());
    // Taking a queue down waits for the kernel, which is nothing for this thread.
    retired_(std::move(loose));
    return true;
  });
}

void Worker::end(const std::vector<std::shared_ptr<Connection>>& connections) {
  if (connections.empty()) return;
  for (const auto& connection : connections) connection->end_input();
  auto remaining = std::vector<std::weak_ptr<Connection>>(connections.begin(), connections.end());
  auto deadline = std::make_shared<Timer>(io_context_, limits_.drain_deadline);
  deadline->async_wait(
      [deadline, remaining = std::move(remaining)](const boost::system::error_code& cancelled) {
        if (cancelled) return;
        for (const auto& entry : remaining)
          if (const auto connection = entry.lock())
            connection->abandon("it did not read its replies in time");
      });
}

void Worker::drain() {
  asio::post(io_context_, [this] {
    draining_ = true;
    for (const auto& visitor : visitors_) visitor->transport->close();
    const auto connections = connections_;  // end_input() may remove some
    end(connections);
  });
}

}  // namespace server
