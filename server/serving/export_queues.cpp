#include "server/serving/export_queues.h"

#include <algorithm>
#include <cerrno>
#include <chrono>
#include <utility>

namespace server {
namespace {

// A client that comes back sooner finds everything as it was.
constexpr auto unused_max = std::chrono::seconds(3);

}  // namespace

ExportQueues::ExportQueues(ConnectionHost& host, std::size_t worker,
                           std::shared_ptr<const ExportTable> table)
    : host_(host),
      worker_(worker),
      table_(std::move(table)),
      rest_(host.io_context()),
      suspend_timer_(host.io_context()) {}

void ExportQueues::add(LooseQueue loose) {
  const auto* const target = loose.target.get();
  queues_.emplace(target,
                  std::make_unique<ExportQueue>(host_.io_context(), std::move(loose), worker_));
}

ExportQueue* ExportQueues::find(const Export& target) const noexcept {
  const auto found = queues_.find(&target);
  return found == queues_.end() ? nullptr : found->second.get();
}

bool ExportQueues::accepts(const Export& target, std::uint64_t size) const noexcept {
  const auto* const queue = find(target);
  return queue != nullptr && queue->phase() != ExportQueue::Phase::closing &&
         size <= queue->device()->size();
}

void ExportQueues::retire(ExportQueue& queue, bool close) {
  if (queue.phase() == ExportQueue::Phase::open) {
    queue.retire();
    retired_.push_back(&queue);
  }
  if (close && queue.phase() == ExportQueue::Phase::retired) queue.close();
}

void ExportQueues::adopt(std::shared_ptr<const ExportTable> table, std::vector<LooseQueue> added) {
  for (auto& loose : added) add(std::move(loose));
  table_ = std::move(table);
}

void ExportQueues::release_retired() {
  if (retired_.empty()) return;
  std::erase_if(retired_, [this](ExportQueue* queue) { return release(*queue); });
}

bool ExportQueues::release(ExportQueue& queue) {
  // As long as the table has it, a handshake may choose it.
  if (table_->find(queue.target()->name()) == queue.target()) return false;
  if (queue.connection_count() > 0 || queue.held() || queue.active()) return false;
  queue.cancel_wait();  // its handler brings the next turn
  if (!queue.quiet()) return false;
  std::erase_if(unused_, [&](const auto& entry) { return entry.queue == &queue; });
  auto loose = queue.take();
  queues_.erase(loose.target.get());
  // Taking a queue down waits for the kernel, which this thread must not do.
  released_(std::move(loose));
  return true;
}

void ExportQueues::suspend_soon(ExportQueue& queue) {
  std::erase_if(unused_, [&](const auto& entry) { return entry.queue == &queue; });
  unused_.push_back({&queue, Clock::now()});
  if (unused_.size() == 1) start_suspending();
}

void ExportQueues::start_suspending() {
  suspend_timer_.expires_at(unused_.front().since + unused_max);
  suspend_timer_.async_wait([this](const boost::system::error_code& cancelled) {
    if (cancelled) return;
    const auto due = Clock::now() - unused_max;
    while (!unused_.empty() && unused_.front().since <= due) {
      auto& queue = *unused_.front().queue;
      unused_.erase(unused_.begin());
      if (queue.connection_count() == 0 && !queue.active()) queue.suspend();
    }
    if (!unused_.empty()) start_suspending();
  });
}

void ExportQueues::submit(ExportQueue& queue, engine::Io& io) noexcept {
  if (queue.submit(io)) active_.push_back(&queue);
}

bool ExportQueues::run() noexcept {
  auto busy = false;
  for (auto* const queue : active_) {
    host_.read_clock();
    if (queue->unflushed()) {
      flush(*queue);
      busy = true;
    }
    busy = queue->harvest() > 0 || busy;
  }
  std::erase_if(active_, [this](ExportQueue* queue) {
    const auto active = queue->update_active();
    if (!active && queue->held()) rest_.signal();
    return !active;
  });
  return busy;
}

void ExportQueues::flush(ExportQueue& queue) noexcept {
  const auto begin = host_.now();
  queue.flush();
  host_.read_clock();
  queue.metrics().submit.add(host_.now() - begin);
}

void ExportQueues::wait_for_completions() {
  // Only while something is in flight: what completes within the submission costs no wake-up.
  for (auto* const queue : active_) queue->wait_for_completion(rest_);
}

void ExportQueues::hold(const Export& target) {
  if (auto* const queue = find(target)) queue->hold();
}

bool ExportQueues::at_rest(const std::vector<std::shared_ptr<Export>>& group) {
  return std::ranges::all_of(group, [this](const auto& member) {
    auto* const queue = find(*member);
    if (queue == nullptr || queue->quiet()) return true;
    if (!queue->active()) queue->cancel_wait();  // its handler signals
    return false;
  });
}

Awaitable<bool> ExportQueues::wait_for_rest(std::vector<std::shared_ptr<Export>> group,
                                            Clock::time_point deadline) {
  auto timer = Timer(host_.io_context(), deadline);
  timer.async_wait([this](const boost::system::error_code&) { rest_.signal(); });
  auto resting = at_rest(group);
  while (!resting && Clock::now() < deadline) {
    co_await rest_.wait();
    resting = at_rest(group);
  }
  co_return resting;
}

ExportQueue* ExportQueues::exchange(LooseQueue& loose) {
  auto* const queue = find(*loose.target);
  if (queue != nullptr) queue->exchange(loose);
  return queue;
}

void ExportQueues::resume(ExportQueue& queue) {
  auto held = queue.resume();
  const auto size = queue.device()->size();
  while (auto* const io = held.pop_front()) {
    // The device has become smaller: an operation of a connection that was ended for it.
    if (io->offset > size || io->length > size - io->offset) {
      io->complete(-EIO);
    } else {
      submit(queue, *io);
    }
  }
}

}  // namespace server
