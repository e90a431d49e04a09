// Strings of the protocol: what may be one, and how one that a client sent is shown to people.
// Pure functions, callable from any thread. Spec: "Conventions".
#pragma once

#include <cstddef>
#include <string>
#include <string_view>

namespace proto {

// At most string_length_max bytes of UTF-8 without NUL: what the specification calls a string.
bool valid_string(std::string_view text) noexcept;

// Bytes of a text that quoted() keeps; what it returns is at most five bytes longer.
inline constexpr std::size_t quoted_length_max = 256;

// `text`, which may be anything, between double quotes and fit for logs and error texts: control
// characters and what is not UTF-8 become "?", and a long text ends in "..." after its beginning.
std::string quoted(std::string_view text);

}  // namespace proto
