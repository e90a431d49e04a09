#include "engine/shell_word.h"

#include <fmt/format.h>

#include <algorithm>

namespace engine {

namespace {

constexpr std::string_view plain =
    "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-._/:+@%,";

bool is_control(char letter) { return static_cast<unsigned char>(letter) < 0x20 || letter == 0x7f; }

}  // namespace

std::string shell_word(std::string_view text) {
  const auto is_plain = [](char letter) { return plain.find(letter) != std::string_view::npos; };
  if (!text.empty() && std::ranges::all_of(text, is_plain)) return std::string(text);
  const auto escaped = std::ranges::any_of(text, is_control);
  auto word = std::string(escaped ? "$'" : "'");
  for (const auto letter : text) {
    if (is_control(letter)) {
      word += fmt::format("\\x{:02x}", static_cast<unsigned char>(letter));
    } else if (letter == '\'') {
      word += escaped ? "\\'" : "'\\''";
    } else if (letter == '\\' && escaped) {
      word += "\\\\";
    } else {
      word += letter;
    }
  }
  return word + "'";
}

std::string shell_path(std::string_view path) {
  return shell_word(path.starts_with('-') ? fmt::format("./{}", path) : std::string(path));
}

}  // namespace engine
