#include "server/config/parse_size.h"

#include <fmt/format.h>

#include <charconv>
#include <limits>

#include "server/base/user_error.h"

namespace server {

std::uint64_t parse_size(std::string_view text, std::string_view noun, std::string_view unit) {
  constexpr std::string_view suffixes = "KMGTP";
  std::uint64_t value = 0;
  const auto* const end = text.data() + text.size();
  const auto [rest, failure] = std::from_chars(text.data(), end, value);
  auto shift = 0U;
  auto valid = failure == std::errc{};
  if (valid && rest != end) {
    const auto suffix = suffixes.find(*rest >= 'a' ? static_cast<char>(*rest - 'a' + 'A') : *rest);
    valid = suffix != std::string_view::npos && rest + 1 == end;
    shift = valid ? 10U * (static_cast<unsigned>(suffix) + 1) : 0;
  }
  if (!valid)
    throw UserError(
        fmt::format("\"{}\" is not a {}: write {}, or a whole number with K, M, G, T or P "
                    "(powers of 1024)",
                    text, noun, unit));
  if (value > static_cast<std::uint64_t>(std::numeric_limits<std::int64_t>::max()) >> shift)
    throw UserError(fmt::format("\"{}\" is too large: a {} stays below 2^63", text, noun));
  return value << shift;
}

}  // namespace server
