#include "server/policy/rate_limiter.h"

#include <algorithm>
#include <limits>

namespace server {
namespace {

constexpr double nanoseconds_per_second = 1e9;
// Of one request, in nanoseconds: an hour, however small the limit is.
constexpr double price_max = 3600 * nanoseconds_per_second;
// No bucket is in debt for longer, in nanoseconds of the clock.
constexpr auto earned_at_max = std::numeric_limits<std::int64_t>::max() / 2;

}  // namespace

void TokenBucket::set(std::uint64_t per_second, double burst_seconds) noexcept {
  burst_.store(static_cast<std::int64_t>(burst_seconds * nanoseconds_per_second),
               std::memory_order_relaxed);
  per_second_.store(per_second, std::memory_order_relaxed);
  earned_at_.store(0, std::memory_order_relaxed);
}

std::int64_t TokenBucket::price(std::uint64_t amount, std::uint64_t per_second) noexcept {
  return static_cast<std::int64_t>(std::min(
      price_max,
      static_cast<double>(amount) * nanoseconds_per_second / static_cast<double>(per_second)));
}

TokenBucket::Time TokenBucket::take(std::uint64_t amount, Time now) noexcept {
  const auto per_second = per_second_.load(std::memory_order_relaxed);
  if (per_second == 0) return now;
  const auto now_count = std::chrono::nanoseconds(now.time_since_epoch()).count();
  auto earned_at = earned_at_.load(std::memory_order_relaxed);
  auto begin = std::int64_t{0};
  auto end = std::int64_t{0};
  do {
    begin = std::max(earned_at, now_count);
    end = std::min(begin, earned_at_max) + price(amount, per_second);
  } while (!earned_at_.compare_exchange_weak(earned_at, end, std::memory_order_relaxed));
  return std::max(now,
                  Time(std::chrono::nanoseconds(begin - burst_.load(std::memory_order_relaxed))));
}

void TokenBucket::give_back(std::uint64_t amount) noexcept {
  // Time that has passed by then is no credit: take() begins at the present at the earliest.
  const auto per_second = per_second_.load(std::memory_order_relaxed);
  if (per_second != 0) earned_at_.fetch_sub(price(amount, per_second), std::memory_order_relaxed);
}

void RateLimiter::set(const RateLimits& limits) noexcept {
  read_iops_.set(limits.read_iops, limits.burst_seconds);
  write_iops_.set(limits.write_iops, limits.burst_seconds);
  read_bytes_.set(limits.read_bytes, limits.burst_seconds);
  write_bytes_.set(limits.write_bytes, limits.burst_seconds);
  any_.store(limits.any(), std::memory_order_relaxed);
}

RateLimiter::Time RateLimiter::take_read(std::uint64_t bytes, Time now) noexcept {
  return std::max(read_iops_.take(1, now), read_bytes_.take(bytes, now));
}

RateLimiter::Time RateLimiter::take_write(std::uint64_t bytes, Time now) noexcept {
  return std::max(write_iops_.take(1, now), write_bytes_.take(bytes, now));
}

void RateLimiter::give_back_read(std::uint64_t bytes) noexcept {
  read_iops_.give_back(1);
  read_bytes_.give_back(bytes);
}

void RateLimiter::give_back_write(std::uint64_t bytes) noexcept {
  write_iops_.give_back(1);
  write_bytes_.give_back(bytes);
}

void ExportLimiter::set(const RateLimits& all, const RateLimits& each_client) {
  const engine::MutexLock lock(mutex_);
  all_limits_ = all;
  client_limits_ = each_client;
  all_.set(all);
  for (const auto& [client, entry] : clients_)
    if (const auto limiter = entry.lock()) limiter->set(each_client);
}

RateLimits ExportLimiter::all() const {
  const engine::MutexLock lock(mutex_);
  return all_limits_;
}

RateLimits ExportLimiter::each_client() const {
  const engine::MutexLock lock(mutex_);
  return client_limits_;
}

std::shared_ptr<RateLimiter> ExportLimiter::for_client(const std::string& client) {
  const engine::MutexLock lock(mutex_);
  // Now and then, so that a client does not pay for the number of the others.
  if (clients_.size() >= sweep_at_) {
    std::erase_if(clients_, [](const auto& entry) { return entry.second.expired(); });
    sweep_at_ = std::max<std::size_t>(64, 2 * clients_.size());
  }
  auto& entry = clients_[client];
  if (auto limiter = entry.lock()) return limiter;
  auto limiter = std::make_shared<RateLimiter>();
  limiter->set(client_limits_);
  entry = limiter;
  return limiter;
}

}  // namespace server
