// Decides when a request of one connection may begin: not faster than the limits of its export and
// of its client allow. A request is charged once to its client, and once to the export when the
// client's turn has come, so that its waiting takes nothing from other clients; each time it waits
// until what it was charged has been earned. A request that never begins gets its charges back.
// Time is an input. Used on the connection's worker's thread.
#pragma once

#include <cstdint>
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
  ~Admission();
  Admission(const Admission&) = delete;
  Admission& operator=(const Admission&) = delete;

  // There are limits; otherwise requests need not be charged.
  bool limited() const noexcept { return all_.any() || client_->any(); }
  // Charges the next request, unless that has been done, and returns when it may begin; a time that
  // is not over: when this is to be called again.
  Clock::time_point charge(const proto::RequestHeader& header, Clock::time_point now) noexcept;
  // The next request has been charged in full and has not begun.
  bool charged() const noexcept { return charged_ == Charged::all; }
  // It was charged elsewhere.
  void resume(Clock::time_point admitted_at) noexcept {
    charged_ = Charged::all;
    admitted_at_ = admitted_at;
  }
  Clock::time_point admitted_at() const noexcept { return admitted_at_; }
  // It has begun; or it shall be charged again, since the limits have changed.
  void forget() noexcept { charged_ = Charged::nobody; }

 private:
  // The payers for the next request so far.
  enum class Charged : std::uint8_t { nobody, client, all };
  // The limits that concern a request.
  enum class Kind : std::uint8_t { none, read, write };

  static Kind kind_of(const proto::RequestHeader& header) noexcept;
  Clock::time_point take(RateLimiter& limiter, Clock::time_point now) const noexcept;
  void give_back(RateLimiter& limiter) const noexcept;

  RateLimiter& all_;
  const std::shared_ptr<RateLimiter> client_;
  Charged charged_ = Charged::nobody;
  // Of the request that is charged.
  Kind kind_ = Kind::none;
  std::uint64_t bytes_ = 0;
  Clock::time_point admitted_at_;
};

}  // namespace server
