// Numbers, lists and times as people read them. Pure functions, callable from any thread.
#pragma once

#include <chrono>
#include <cstdint>
#include <span>
#include <string>
#include <string_view>

namespace server {

// "512 B", "64 MiB", "1.5 GiB": four digits.
std::string format_size(double bytes);
std::string format_size(std::uint64_t bytes);

// "1 worker", "3 workers".
std::string plural(std::uint64_t count, std::string_view thing);

// "a, b, c"; "none" of nothing.
std::string joined(std::span<const std::string> words);

double seconds_of(std::chrono::nanoseconds duration) noexcept;
double milliseconds_of(std::chrono::nanoseconds duration) noexcept;
double microseconds_of(std::chrono::nanoseconds duration) noexcept;

}  // namespace server
