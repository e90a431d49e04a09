// Strings of the protocol: what may be one, and how one that a client sent is shown to people.
// Pure functions, callable from any thread. Spec: "Conventions".
#pragma once

#include <cstddef>
#include <string>
#include <string_view>

namespace proto {

// At most string_length_max bytes of UTF-8 without NUL: what the specification calls a string.
bool valid_string(std::string_view text) noexcept;

// `text`, which may be anything, fit for logs, terminals and error texts: a control character and
// each byte that is not UTF-8 become "?". Of a text longer than `kept_max` bytes, its first whole
// characters and "...".
std::string printable(std::string_view text, std::size_t kept_max);

// Bytes of a text that quoted() keeps; its result is at most five bytes longer.
inline constexpr std::size_t quoted_length_max = 256;

// printable(), between double quotes.
std::string quoted(std::string_view text);

}  // namespace proto
