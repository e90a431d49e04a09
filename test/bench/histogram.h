// Latencies in a fixed amount of memory: buckets grow with the value, so that every recorded
// latency is known to 1/64 of itself whether it lasted microseconds or seconds. Used by one thread;
// merge() joins those of several.
#pragma once

#include <algorithm>
#include <array>
#include <bit>
#include <cstddef>
#include <cstdint>

namespace bench {

class Histogram {
 public:
  // `value` in nanoseconds; what exceeds the range is counted in the last bucket.
  void record(std::uint64_t value) noexcept {
    ++counts_[bucket(value)];
    ++count_;
    sum_ += value;
    max_ = std::max(max_, value);
  }
  void merge(const Histogram& other) noexcept;

  std::uint64_t count() const noexcept { return count_; }
  std::uint64_t max() const noexcept { return max_; }  // nanoseconds, exact
  double mean() const noexcept;                        // nanoseconds, exact
  // The least value that at least `fraction` (0..1) of the recorded ones do not exceed, rounded up
  // to the end of its bucket and never above max(); 0 when nothing was recorded.
  std::uint64_t percentile(double fraction) const noexcept;

  static constexpr unsigned precision_bits = 6;  // 2^6 buckets for each power of two
  static constexpr unsigned value_bits = 40;     // about 18 minutes in nanoseconds
  static constexpr std::size_t bucket_count = (value_bits - precision_bits + 1) << precision_bits;

  // Which bucket holds `value`, and the largest value of a bucket.
  static constexpr std::size_t bucket(std::uint64_t value) noexcept {
    constexpr std::uint64_t exact_below = std::uint64_t{1} << precision_bits;
    if (value < exact_below) return static_cast<std::size_t>(value);
    const auto shift = static_cast<unsigned>(std::bit_width(value)) - precision_bits - 1;
    const std::uint64_t index = (std::uint64_t{shift} << precision_bits) + (value >> shift);
    return static_cast<std::size_t>(std::min<std::uint64_t>(index, bucket_count - 1));
  }
  static constexpr std::uint64_t bucket_end(std::size_t index) noexcept {
    constexpr std::uint64_t per_power = std::uint64_t{1} << precision_bits;
    if (index < 2 * per_power) return index;
    const std::uint64_t shift = (index >> precision_bits) - 1;
    return ((per_power + (index & (per_power - 1)) + 1) << shift) - 1;
  }

 private:
  std::array<std::uint64_t, bucket_count> counts_{};
  std::uint64_t count_ = 0;
  std::uint64_t sum_ = 0;
  std::uint64_t max_ = 0;
};

}  // namespace bench
