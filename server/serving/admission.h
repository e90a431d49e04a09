// Decides when a request of one connection may begin: not faster than the limits of its export and
// of its client allow. A request is charged once, and waits until what it was charged has been
// earned. Time is an input. Used on the connection's worker's thread.
#pragma once

#include <memory>

#include "proto/request.h"
#include "server/base/metrics.h"
#include "server/policy/rate_limiter.h"

namespace server {

class Admission {
 public:
  // `limiter` outlives this object.
  Admission(ExportLimiter& limiter, std::shared_ptr<RateLimiter> client) noexcept
      : all_(limiter.for_all()), client_(std::move(client)) {}

  // There are limits; otherwise requests need not be charged.
  bool limited() const noexcept { return all_.any() || client_->any(); }
  // Charges the next request, unless that has been done, and returns when it may begin.
  Clock::time_point charge(const proto::RequestHeader& header, Clock::time_point now) noexcept;
  // The next request has been charged and has not begun.
  bool charged() const noexcept { return charged_; }
  // It was charged elsewhere.
  void resume(Clock::time_point admitted_at) noexcept {
    charged_ = true;
    admitted_at_ = admitted_at;
  }
  Clock::time_point admitted_at() const noexcept { return admitted_at_; }
  // It has begun; or it shall be charged again, since the limits have changed.
  void forget() noexcept { charged_ = false; }

 private:
  Clock::time_point take(const proto::RequestHeader& header, Clock::time_point now) noexcept;

  RateLimiter& all_;
  const std::shared_ptr<RateLimiter> client_;
  bool charged_ = false;
  Clock::time_point admitted_at_;  // the request that is charged
};

}  // namespace server
