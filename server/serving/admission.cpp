#include "server/serving/admission.h"

namespace server {

Admission::~Admission() {
  if (charged_ != Charged::nobody) give_back(*client_);
  if (charged_ == Charged::all) give_back(all_);
}

Clock::time_point Admission::charge(const proto::RequestHeader& header,
                                    Clock::time_point now) noexcept {
  // A request that was charged may wait for a slot as well, but is not charged again.
  if (charged_ == Charged::nobody) {
    kind_ = kind_of(header);
    const auto moves_data =
        header.command == proto::Command::read || header.command == proto::Command::write;
    bytes_ = moves_data ? header.length : 0;
    admitted_at_ = take(*client_, now);
    charged_ = Charged::client;
  }
  if (charged_ == Charged::client && admitted_at_ <= now) {
    admitted_at_ = take(all_, now);
    charged_ = Charged::all;
  }
  return admitted_at_;
}

Admission::Kind Admission::kind_of(const proto::RequestHeader& header) noexcept {
  switch (header.command) {
    using enum proto::Command;
    case read:
    case cache:
    case block_status:
      return Kind::read;
    case write:
    case trim:
    case write_zeroes:
      return Kind::write;
    default:
      return Kind::none;
  }
}

Clock::time_point Admission::take(RateLimiter& limiter, Clock::time_point now) const noexcept {
  if (kind_ == Kind::read) return limiter.take_read(bytes_, now);
  return kind_ == Kind::write ? limiter.take_write(bytes_, now) : now;
}

void Admission::give_back(RateLimiter& limiter) const noexcept {
  if (kind_ == Kind::read) limiter.give_back_read(bytes_);
  if (kind_ == Kind::write) limiter.give_back_write(bytes_);
}

}  // namespace server
