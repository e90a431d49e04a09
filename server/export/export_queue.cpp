#include "server/export/export_queue.h"

#include <utility>

#include "engine/check.h"

namespace server {

LooseQueue make_queue(std::shared_ptr<Export> target, std::size_t depth_max) {
  auto device = target->device();
  auto queue = device->make_queue(depth_max);
  return {std::move(target), std::move(device), std::move(queue)};
}

ExportQueue::ExportQueue(asio::io_context& io_context, LooseQueue loose, std::size_t worker)
    : io_context_(io_context),
      target_(std::move(loose.target)),
      device_(std::move(loose.device)),
      queue_(std::move(loose.queue)),
      metrics_(target_->metrics()[worker]),
      wakeup_(io_context, queue_->wakeup_fd()) {}

ExportQueue::~ExportQueue() { wakeup_.release(); }

void ExportQueue::retire() noexcept {
  LOOPNBD_ASSERT(phase_ == Phase::open);
  phase_ = Phase::retired;
}

void ExportQueue::close() noexcept {
  LOOPNBD_ASSERT(phase_ == Phase::retired);
  phase_ = Phase::closing;
}

void ExportQueue::add_connection() noexcept { ++connection_count_; }

void ExportQueue::remove_connection() noexcept {
  LOOPNBD_ASSERT(connection_count_ > 0);
  --connection_count_;
}

LooseQueue ExportQueue::take() noexcept {
  LOOPNBD_ASSERT(phase_ != Phase::open && connection_count_ == 0);
  LOOPNBD_ASSERT(quiet() && !held_);
  return {std::move(target_), std::move(device_), std::move(queue_)};
}

bool ExportQueue::submit(engine::Io& io) noexcept {
  if (held_) {
    held_ios_.push_back(io);
    return false;
  }
  queue_->submit(io);
  unflushed_ = true;
  return !std::exchange(active_, true);
}

void ExportQueue::flush() noexcept {
  unflushed_ = false;
  queue_->flush();
}

bool ExportQueue::update_active() noexcept {
  active_ = unflushed_ || queue_->in_flight() > 0;
  LOOPNBD_ASSERT(invariants());
  return active_;
}

void ExportQueue::wait_for_completion(Event& rest) {
  if (std::exchange(waiting_, true)) return;
  wakeup_.async_wait(Descriptor::wait_read,
                     [this, &rest](const boost::system::error_code& failure) {
                       waiting_ = false;
                       if (held_) rest.signal();
                       if (!failure) queue_->clear_wakeup();
                     });
}

void ExportQueue::cancel_wait() {
  LOOPNBD_ASSERT(!active_);
  if (waiting_) wakeup_.cancel();
}

void ExportQueue::hold() noexcept {
  LOOPNBD_ASSERT(!held_);
  held_ = true;
}

void ExportQueue::exchange(LooseQueue& loose) {
  LOOPNBD_ASSERT(held_ && quiet());
  wakeup_.release();
  std::swap(device_, loose.device);
  std::swap(queue_, loose.queue);
  wakeup_ = Descriptor(io_context_, queue_->wakeup_fd());
  LOOPNBD_ASSERT(invariants());
}

void ExportQueue::suspend() noexcept {
  LOOPNBD_ASSERT(connection_count_ == 0 && !active_);
  queue_->suspend();
}

engine::IoList ExportQueue::resume() noexcept {
  LOOPNBD_ASSERT(held_);
  held_ = false;
  return std::exchange(held_ios_, {});
}

std::size_t ExportQueue::take_slow_count() noexcept { return std::exchange(slow_count_, 0); }

bool ExportQueue::invariants() const noexcept {
  return queue_ != nullptr && (held_ || held_ios_.empty()) && (active_ || !unflushed_) &&
         (active_ || queue_->in_flight() == 0);
}

}  // namespace server
