#include "server/serving/status.h"

#include <algorithm>
#include <numeric>

namespace server {

std::uint64_t DurationStatus::count() const noexcept {
  return std::accumulate(buckets.begin(), buckets.end(), std::uint64_t{0});
}

std::chrono::nanoseconds DurationStatus::quantile(double part) const noexcept {
  const auto wanted = part * static_cast<double>(count());
  auto seen = std::uint64_t{0};
  for (auto index = std::size_t{0}; index < buckets.size(); ++index) {
    seen += buckets[index];
    if (seen > 0 && static_cast<double>(seen) >= wanted)
      return duration_bucket_end(std::min(index, buckets.size() - 2));
  }
  return std::chrono::nanoseconds(0);
}

void DurationStatus::add(const DurationCounter& counter) noexcept {
  for (auto index = std::size_t{0}; index < buckets.size(); ++index)
    buckets[index] += counter.buckets()[index].value();
  sum += counter.sum();
}

bool ServerStatus::all_workers_respond() const noexcept {
  return std::ranges::all_of(workers, &WorkerStatus::responding);
}

std::uint64_t ServerStatus::connection_count() const noexcept {
  auto count = std::uint64_t{0};
  for (const auto& worker : workers) count += worker.connections;
  return count;
}

std::uint64_t ServerStatus::memory_in_use() const noexcept {
  auto bytes = std::uint64_t{0};
  for (const auto& worker : workers) bytes += worker.memory_in_use;
  return bytes;
}

std::uint64_t ServerStatus::memory_budget() const noexcept {
  auto bytes = std::uint64_t{0};
  for (const auto& worker : workers) bytes += worker.memory_budget;
  return bytes;
}

}  // namespace server
