#include "server/serving/admission.h"

#include <algorithm>
#include <functional>
#include <utility>

namespace server {

Clock::time_point Admission::charge(const proto::RequestHeader& header,
                                    Clock::time_point now) noexcept {
  // A request that was charged may wait for a slot as well, but is not charged again.
  if (!std::exchange(charged_, true)) admitted_at_ = take(header, now);
  return admitted_at_;
}

Clock::time_point Admission::take(const proto::RequestHeader& header,
                                  Clock::time_point now) noexcept {
  using enum proto::Command;
  const auto command = header.command;
  const auto reads = command == read || command == cache || command == block_status;
  const auto writes = command == write || command == trim || command == write_zeroes;
  if (!reads && !writes) return now;
  const auto take = reads ? &RateLimiter::take_read : &RateLimiter::take_write;
  const auto bytes = command == read || command == write ? header.length : 0;
  return std::max(std::invoke(take, all_, bytes, now), std::invoke(take, *client_, bytes, now));
}

}  // namespace server
