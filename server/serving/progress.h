// How much a client has moved of what is held for it, as far as that is its own doing: the measure
// of who may keep memory that others wait for. Time is an input.
#pragma once

#include <algorithm>
#include <chrono>
#include <cstddef>
#include <cstdint>

namespace server {

// Of one client, over a period.
struct Progress {
  std::size_t held = 0;     // bytes, all the time, that wait for it to read or to send
  std::uint64_t moved = 0;  // bytes that it has taken or given

  // Nobody needs to move more in a second, however much is held: the more clients there are with
  // that, the more memory becomes free.
  static constexpr std::uint64_t rate_enough = 32U << 10;  // bytes
  // All that is held is expected to have moved by then.
  static constexpr auto time_for_all = std::chrono::seconds(60);

  // Too little has moved in `period`.
  bool too_slow(std::chrono::nanoseconds period) const noexcept;
  // Of the two, this one has moved less of what is held for it, and more is held if both have moved
  // nothing.
  bool slower_than(const Progress& other) const noexcept;
};

// Measures it for one connection.
class ProgressMeter {
 public:
  // Bytes were received, or were sent as far as the kernel takes them.
  void count(std::uint64_t bytes) noexcept { through_ += bytes; }
  // `held`, at the moment, waits for the client; of what was sent, `unsent()` bytes have not
  // reached it.
  template <typename Unsent>
  void begin(std::size_t held, const Unsent& unsent) noexcept {
    begin_ = {.held = held, .moved = held > 0 ? moved(unsent()) : 0};
  }
  // Since begin().
  template <typename Unsent>
  Progress progress(std::size_t held, const Unsent& unsent) const noexcept {
    held = std::min(held, begin_.held);
    if (held == 0) return {};
    const auto now = moved(unsent());
    return {.held = held, .moved = now - std::min(now, begin_.moved)};
  }

 private:
  std::uint64_t moved(std::uint64_t unsent) const noexcept {
    return through_ - std::min(through_, unsent);
  }

  std::uint64_t through_ = 0;  // bytes
  Progress begin_;             // `moved` is since the connection exists
};

}  // namespace server
