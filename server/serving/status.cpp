#include "server/serving/status.h"

#include <algorithm>
#include <numeric>
#include <tuple>
#include <utility>

namespace server {
namespace {

void add(std::uint64_t& sum, const Counter& counter) noexcept { sum += counter.value(); }
void add(DurationStatus& sum, const DurationCounter& counter) noexcept { sum.add(counter); }
template <std::size_t count>
void add(std::array<std::uint64_t, count>& sums, const std::array<Counter, count>& counters) {
  for (auto index = std::size_t{0}; index < count; ++index) add(sums[index], counters[index]);
}

template <typename Counts>
constexpr std::size_t size_of_all = std::apply(
    [](auto... members) { return (sizeof(std::declval<Counts>().*members) + ...); }, Counts::all);

template <typename Sums, typename Counters, std::size_t... index>
void add_all(Sums& sums, const Counters& counters, std::index_sequence<index...>) noexcept {
  static_assert(size_of_all<Sums> == sizeof(Sums), "a member is missing in `all`");
  (add(sums.*std::get<index>(Sums::all), counters.*std::get<index>(Counters::all)), ...);
}

template <typename Sums>
using EachMember = std::make_index_sequence<std::tuple_size_v<decltype(Sums::all)>>;

}  // namespace

void add_up(CommandSums& sums, const CommandMetrics& worker) noexcept {
  add_all(sums, worker, EachMember<CommandSums>());
}

void add_up(ExportSums& sums, const ExportMetrics& worker) noexcept {
  add_all(sums, worker, EachMember<ExportSums>());
}

void add_up(WorkerSums& sums, const WorkerMetrics& worker) noexcept {
  add_all(sums, worker, EachMember<WorkerSums>());
}

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
