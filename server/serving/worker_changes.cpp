// The part of Worker that follows changes of the exports, and ends connections for them and for the
// end of the server.
#include <algorithm>
#include <cerrno>
#include <iterator>
#include <utility>

#include "server/base/log.h"
#include "server/serving/connection.h"
#include "server/serving/worker.h"

namespace server {

void Worker::retire(const std::vector<std::shared_ptr<Export>>& leaving, Departure departure) {
  auto concerned = std::vector<std::shared_ptr<Connection>>{};
  for (const auto& target : leaving) {
    auto* const queue = find_queue(*target);
    if (queue == nullptr) continue;  // it has left earlier, and its clients, too
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
    queues_.emplace(target, std::make_unique<ExportQueue>(io_context(), std::move(queue), index_));
  }
  exports_ = std::move(exports);
}

ExportQueue* Worker::find_queue(const Export& target) const noexcept {
  const auto found = queues_.find(&target);
  return found == queues_.end() ? nullptr : found->second.get();
}

bool Worker::offers(const Handshake& handshake) const {
  const auto* const queue = find_queue(*handshake.target);
  return queue != nullptr && !queue->closing &&
         handshake.negotiated.export_description.size <= queue->device->size();
}

std::size_t Worker::connection_count(const Export& target) const {
  const auto* const queue = find_queue(target);
  return queue == nullptr ? 0 : queue->connection_count;
}

void Worker::release_retired() {
  std::erase_if(retired_queues_, [this](ExportQueue* queue) {
    // As long as the table has it, a handshake may choose it.
    if (exports_->find(queue->target->name()) == queue->target) return false;
    if (queue->connection_count > 0 || queue->held) return false;
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

void Worker::hold(const Export& target) {
  if (auto* const queue = find_queue(target)) queue->held = true;
}

bool Worker::is_at_rest(const std::vector<std::shared_ptr<Export>>& group) {
  return std::ranges::all_of(group, [this](const auto& member) {
    auto* const queue = find_queue(*member);
    if (queue == nullptr || queue->is_quiet()) return true;
    if (!queue->active) queue->wakeup.cancel();  // its handler brings the news
    return false;
  });
}

Awaitable<bool> Worker::wait_for_rest(std::vector<std::shared_ptr<Export>> group,
                                      Clock::time_point deadline) {
  auto timer = Timer(io_context(), deadline);
  timer.async_wait([this](const boost::system::error_code&) { rest_.cancel(); });
  auto at_rest = is_at_rest(group);
  while (!at_rest && Clock::now() < deadline) {
    co_await rest_.async_wait(as_result);
    at_rest = is_at_rest(group);
  }
  co_return at_rest;
}

void Worker::exchange(LooseQueue& loose) {
  auto* const queue = find_queue(*loose.target);
  if (queue == nullptr) return;  // it left before it was held
  queue->wakeup.release();
  std::swap(queue->device, loose.device);
  std::swap(queue->queue, loose.queue);
  queue->wakeup = Descriptor(io_context(), queue->queue->wakeup_fd());
  const auto connections = connections_;
  for (const auto& connection : connections)
    if (&connection->queue() == queue && connection->export_size() > queue->device->size())
      connection->abandon("its export has become smaller");
}

void Worker::let_go(const Export& target) {
  auto* const queue = find_queue(target);
  if (queue == nullptr) return;
  queue->held = false;
  requests().for_each_request([queue](Request& request) {
    if (request.state == RequestState::held && &request.connection->queue() == queue)
      request.enter(RequestState::on_device);
  });
  const auto size = queue->device->size();
  while (auto* const io = queue->held_ios.pop_front()) {
    // Only of connections that were ended for it.
    if (io->offset > size || io->length > size - io->offset) {
      io->complete(-EIO);
    } else {
      submit(*queue, *io);
    }
  }
  for (const auto& connection : connections_)
    if (&connection->queue() == queue) connection->queue_released();
}

std::size_t Worker::end_connections(const std::function<bool(const Connection&)>& chosen,
                                    Departure departure) {
  auto concerned = std::vector<std::shared_ptr<Connection>>{};
  std::ranges::copy_if(connections_, std::back_inserter(concerned),
                       [&](const auto& connection) { return chosen(*connection); });
  if (departure == Departure::drain) end(concerned);
  if (departure == Departure::now)
    for (const auto& connection : concerned) connection->abandon("it was told to");
  return concerned.size();
}

void Worker::charge_anew(const Export& target) {
  for (const auto& connection : connections_)
    if (&connection->target().limiter() == &target.limiter()) connection->limits_changed();
}

void Worker::end(const std::vector<std::shared_ptr<Connection>>& connections) {
  if (connections.empty()) return;
  for (const auto& connection : connections) connection->end_input();
  auto remaining = std::vector<std::weak_ptr<Connection>>(connections.begin(), connections.end());
  auto deadline = std::make_shared<Timer>(io_context(), bounds().drain_deadline);
  deadline->async_wait(
      [deadline, remaining = std::move(remaining)](const boost::system::error_code& cancelled) {
        if (cancelled) return;
        for (const auto& entry : remaining)
          if (const auto connection = entry.lock())
            connection->abandon("it did not read its replies in time");
      });
}

void Worker::drain() {
  asio::post(io_context(), [this] {
    draining_ = true;
    for (const auto& visitor : visitors_) visitor->transport->close();
    const auto connections = connections_;  // end_input() may remove some
    end(connections);
  });
}

}  // namespace server
