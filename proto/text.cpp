#include "proto/text.h"

#include <algorithm>
#include <cstdint>

#include "proto/constants.h"

namespace proto {
namespace {

struct Character {
  std::size_t length = 0;  // bytes; zero when the text does not start with a UTF-8 character
  std::uint32_t code_point = 0;
};

std::uint32_t byte_at(std::string_view text, std::size_t index) noexcept {
  return static_cast<unsigned char>(text[index]);
}

// RFC 3629: no overlong forms, no surrogates, nothing beyond U+10FFFF. `text` is not empty.
Character first_character(std::string_view text) noexcept {
  const auto lead = byte_at(text, 0);
  if (lead < 0x80) return {1, lead};
  const std::size_t length = lead >= 0xf0 ? 4 : lead >= 0xe0 ? 3 : 2;
  if (lead < 0xc0 || lead > 0xf4 || text.size() < length) return {};

  std::uint32_t code_point = lead & (0x7fU >> length);
  for (std::size_t index = 1; index < length; ++index) {
    const auto next = byte_at(text, index);
    if ((next & 0xc0) != 0x80) return {};
    code_point = code_point << 6 | (next & 0x3f);
  }
  const std::uint32_t smallest = length == 4 ? 0x10000 : length == 3 ? 0x800 : 0x80;
  const bool surrogate = code_point >= 0xd800 && code_point <= 0xdfff;
  if (code_point < smallest || code_point > 0x10ffff || surrogate) return {};
  return {length, code_point};
}

// C0, DEL and C1: a terminal that shows the log might obey them.
bool is_control(std::uint32_t code_point) noexcept {
  return code_point < 0x20 || (code_point >= 0x7f && code_point < 0xa0);
}

}  // namespace

bool valid_string(std::string_view text) noexcept {
  if (text.size() > string_length_max) return false;
  while (!text.empty()) {
    const auto character = first_character(text);
    if (character.length == 0 || character.code_point == 0) return false;
    text.remove_prefix(character.length);
  }
  return true;
}

std::string printable(std::string_view text, std::size_t kept_max) {
  std::string shown;
  std::size_t kept = 0;
  while (kept < std::min(text.size(), kept_max)) {
    const auto rest = text.substr(kept);
    const auto character = first_character(rest);
    if (kept + character.length > kept_max) break;
    const bool harmless = character.length > 0 && !is_control(character.code_point);
    if (harmless) shown += rest.substr(0, character.length);
    if (!harmless) shown += '?';
    kept += std::max<std::size_t>(character.length, 1);
  }
  if (text.size() > kept_max) shown += "...";
  return shown;
}

std::string quoted(std::string_view text) { return '"' + printable(text, quoted_length_max) + '"'; }

}  // namespace proto
