// Offsets and sizes rounded to whole units, which are powers of two. Pure functions, any thread.
#pragma once

#include <cstdint>

namespace engine {

constexpr std::uint64_t round_down(std::uint64_t value, std::uint64_t unit) noexcept {
  return value & ~(unit - 1);
}

constexpr std::uint64_t round_up(std::uint64_t value, std::uint64_t unit) noexcept {
  return round_down(value + unit - 1, unit);
}

}  // namespace engine
