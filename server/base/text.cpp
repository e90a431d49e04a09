#include "server/base/text.h"

#include <fmt/format.h>

#include <array>

namespace server {

std::string format_size(double bytes) {
  constexpr auto units = std::array{"B", "KiB", "MiB", "GiB", "TiB", "PiB", "EiB"};
  auto unit = std::size_t{0};
  for (; bytes >= 1024 && unit + 1 < units.size(); ++unit) bytes /= 1024;
  return fmt::format("{:.4g} {}", bytes, units[unit]);
}

std::string format_size(std::uint64_t bytes) { return format_size(static_cast<double>(bytes)); }

std::string plural(std::uint64_t count, std::string_view thing) {
  return fmt::format("{} {}{}", count, thing, count == 1 ? "" : "s");
}

std::string joined(std::span<const std::string> words) {
  return words.empty() ? "none" : fmt::format("{}", fmt::join(words, ", "));
}

double seconds_of(std::chrono::nanoseconds duration) noexcept {
  return std::chrono::duration<double>(duration).count();
}

double milliseconds_of(std::chrono::nanoseconds duration) noexcept {
  return std::chrono::duration<double, std::milli>(duration).count();
}

double microseconds_of(std::chrono::nanoseconds duration) noexcept {
  return std::chrono::duration<double, std::micro>(duration).count();
}

}  // namespace server
