// The part of Connection that decides when a request may begin: not while its device is at rest,
// and not faster than the limits allow. Until then nothing is received, and TCP holds the client
// back.
#include <algorithm>
#include <functional>
#include <utility>

#include "server/serving/connection.h"
#include "server/serving/connection_host.h"

namespace server {

bool Connection::limited() const noexcept {
  return target_->limiter().for_all().any() || client_limiter_->any();
}

// Whoever waits for a limit shall have no more than the header of the request that waits, which
// takes no buffer from others.
std::size_t Connection::receivable(std::size_t room) const noexcept {
  const auto in_front_of_header =
      phase_ == Phase::header || (phase_ == Phase::payload && remaining_ == 0);
  const auto size = proto::request_size(rules_.header_style);
  const auto received = received_.unconsumed().size();
  if (!in_front_of_header || received >= size || !limited()) return room;
  return std::min(room, size - received);
}

bool Connection::admit(const proto::RequestHeader& header) noexcept {
  if (queue_.held) {
    blocked_ = true;  // until the worker lets go
    return false;
  }
  // A connection that ends has little left, and somebody may wait for its end.
  if (input_ended_ || !limited()) return true;
  // What was charged waits for a slot, perhaps, but is not charged again.
  if (!std::exchange(charged_, true)) admitted_at_ = charge(header);
  if (admitted_at_ <= Clock::now()) return true;
  blocked_ = true;
  wait_for_limit();
  return false;
}

Clock::time_point Connection::charge(const proto::RequestHeader& header) noexcept {
  using enum proto::Command;
  const auto command = header.command;
  const auto now = Clock::now();
  const auto reads = command == read || command == cache || command == block_status;
  const auto writes = command == write || command == trim || command == write_zeroes;
  if (!reads && !writes) return now;
  const auto take = reads ? &RateLimiter::take_read : &RateLimiter::take_write;
  const auto bytes = command == read || command == write ? header.length : 0;
  return std::max(std::invoke(take, target_->limiter().for_all(), bytes, now),
                  std::invoke(take, *client_limiter_, bytes, now));
}

void Connection::wait_for_limit() {
  if (std::exchange(waiting_for_limit_, true)) return;
  if (limit_wait_ == nullptr) limit_wait_ = std::make_unique<Timer>(host_.io_context());
  limit_wait_->expires_at(admitted_at_);
  limit_wait_->async_wait([self = shared_from_this()](const boost::system::error_code&) {
    self->waiting_for_limit_ = false;
    if (!self->finished_ && !self->broken_) self->schedule();
  });
}

void Connection::queue_released() noexcept {
  // One that has not been started waits for something else.
  if (started_) schedule();
}

void Connection::limits_changed() noexcept {
  charged_ = false;
  if (limit_wait_ != nullptr) limit_wait_->cancel();
}

}  // namespace server
