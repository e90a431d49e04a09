// How fast an export, or one client of it, may be used: token buckets that all workers share
// without locks. A request is charged once, whatever its size; the debt makes the next one wait.
// A request that is not carried out gets back what it was charged. Each connection waits with
// one request at a time, in the order in which they were charged, so that connections share fairly.
// Time is an input.
#pragma once

#include <array>
#include <atomic>
#include <chrono>
#include <cstdint>
#include <map>
#include <memory>
#include <string>

#include "engine/mutex.h"

namespace server {

inline constexpr double burst_seconds_max = 3600;

// As configured. Zero: no limit.
struct RateLimits {
  std::uint64_t read_iops = 0;    // requests a second
  std::uint64_t write_iops = 0;   // TRIM and WRITE_ZEROES are among them
  std::uint64_t read_bytes = 0;   // a second
  std::uint64_t write_bytes = 0;  // a second; of WRITE
  double burst_seconds = 0.1;     // so much of a second's budget may be used at once

  bool any() const noexcept { return (read_iops | write_iops | read_bytes | write_bytes) != 0; }
  bool operator==(const RateLimits&) const = default;
};

// The rates of RateLimits, as configuration, command line, control socket and status name them.
struct Rate {
  const char* name;
  const char* flag;
  std::uint64_t RateLimits::*value;
  const char* what;
};
inline constexpr auto rates = std::array{
    Rate{"read_iops", "--read-iops", &RateLimits::read_iops, "READs a second"},
    Rate{"write_iops", "--write-iops", &RateLimits::write_iops,
         "WRITEs, TRIMs and WRITE_ZEROES a second"},
    Rate{"read_bytes", "--read-bytes", &RateLimits::read_bytes, "Bytes read a second (K, M, G)"},
    Rate{"write_bytes", "--write-bytes", &RateLimits::write_bytes,
         "Bytes written a second (K, M, G)"},
};

class TokenBucket {
 public:
  using Time = std::chrono::steady_clock::time_point;

  // `per_second` zero: no limit. Debts are forgotten. Any thread.
  void set(std::uint64_t per_second, double burst_seconds) noexcept;
  // Takes `amount` out and returns when what it is for may begin. Any thread.
  Time take(std::uint64_t amount, Time now) noexcept;
  // Takes back an `amount` that was taken for nothing. Any thread.
  void give_back(std::uint64_t amount) noexcept;

 private:
  static std::int64_t price(std::uint64_t amount, std::uint64_t per_second) noexcept;

  std::atomic<std::uint64_t> per_second_{0};
  std::atomic<std::int64_t> burst_{0};  // nanoseconds
  // When all that was taken will have been earned; nanoseconds of the clock.
  std::atomic<std::int64_t> earned_at_{0};
};

class RateLimiter {
 public:
  using Time = TokenBucket::Time;

  void set(const RateLimits& limits) noexcept;
  bool any() const noexcept { return any_.load(std::memory_order_relaxed); }
  // Charges one request; when it may begin.
  Time take_read(std::uint64_t bytes, Time now) noexcept;
  Time take_write(std::uint64_t bytes, Time now) noexcept;
  // One that was charged is not carried out.
  void give_back_read(std::uint64_t bytes) noexcept;
  void give_back_write(std::uint64_t bytes) noexcept;

 private:
  std::atomic<bool> any_{false};
  TokenBucket read_iops_;
  TokenBucket write_iops_;
  TokenBucket read_bytes_;
  TokenBucket write_bytes_;
};

// The limits of one export: of all its clients together, and of each.
class ExportLimiter {
 public:
  ExportLimiter(const RateLimits& all, const RateLimits& each_client) { set(all, each_client); }

  // Any thread.
  void set(const RateLimits& all, const RateLimits& each_client);
  RateLimits all() const;
  RateLimits each_client() const;

  RateLimiter& for_all() noexcept { return all_; }
  // The one that all connections of a client share.
  std::shared_ptr<RateLimiter> for_client(const std::string& client);

 private:
  RateLimiter all_;
  mutable engine::Mutex mutex_;
  RateLimits all_limits_ LOOPNBD_GUARDED_BY(mutex_);
  RateLimits client_limits_ LOOPNBD_GUARDED_BY(mutex_);
  std::map<std::string, std::weak_ptr<RateLimiter>> clients_ LOOPNBD_GUARDED_BY(mutex_);
  std::size_t sweep_at_ LOOPNBD_GUARDED_BY(mutex_) = 0;  // entries: then those that are gone go
};

}  // namespace server
