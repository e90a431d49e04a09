#include "server/config/key_file.h"

#include <fmt/format.h>

#include <algorithm>
#include <charconv>
#include <sstream>

#include "server/base/read_file.h"
#include "server/base/user_error.h"

namespace server {
namespace {

constexpr std::string_view white_space = " \t\r\v\f";

std::string_view trim_front(std::string_view text) {
  const auto begin = text.find_first_not_of(white_space);
  return begin == std::string_view::npos ? std::string_view{} : text.substr(begin);
}

std::string_view trim_back(std::string_view text) {
  return text.substr(0, text.find_last_not_of(white_space) + 1);
}

// \s, \n, \t, \r and \\; what else stands behind a backslash stays as it is.
std::string unescape(std::string_view text) {
  auto plain = std::string{};
  for (std::size_t index = 0; index < text.size(); ++index) {
    constexpr std::string_view letters = "sntr\\";
    constexpr std::string_view meanings = " \n\t\r\\";
    const auto letter = text[index] == '\\' && index + 1 < text.size()
                            ? letters.find(text[index + 1])
                            : std::string_view::npos;
    if (letter == std::string_view::npos) {
      plain += text[index];
    } else {
      plain += meanings[letter];
      ++index;
    }
  }
  return plain;
}

KeyFileSection& section_named(std::vector<KeyFileSection>& sections, std::string_view name,
                              const std::string& path, std::size_t line) {
  const auto found = std::ranges::find(sections, name, &KeyFileSection::name);
  if (found != sections.end()) return *found;
  return sections.emplace_back(
      KeyFileSection{.name = std::string(name), .path = path, .line = line, .entries = {}});
}

}  // namespace

std::string KeyFileSection::place() const { return fmt::format("{}:{}", path, line); }

std::string KeyFileSection::place(const KeyFileEntry& entry) const {
  return fmt::format("{}:{}", path, entry.line);
}

const KeyFileEntry* KeyFileSection::find(std::string_view key) const {
  const auto found = std::find_if(entries.rbegin(), entries.rend(),
                                  [key](const auto& entry) { return entry.key == key; });
  return found == entries.rend() ? nullptr : &*found;
}

std::optional<std::string> KeyFileSection::text(std::string_view key) const {
  const auto* const entry = find(key);
  if (entry == nullptr) return std::nullopt;
  return entry->value;
}

bool KeyFileSection::flag(std::string_view key) const {
  const auto* const entry = find(key);
  if (entry == nullptr) return false;
  const auto value = trim_back(entry->value);
  if (value == "true" || value == "1") return true;
  if (value == "false" || value == "0") return false;
  throw UserError(fmt::format("{}: {} = {}: expected true or false", place(*entry), key, value));
}

std::optional<std::int64_t> KeyFileSection::number(std::string_view key) const {
  const auto* const entry = find(key);
  if (entry == nullptr) return std::nullopt;
  const auto value = trim_back(entry->value);
  auto number = std::int64_t{0};
  const auto* const end = value.data() + value.size();
  const auto [rest, failure] = std::from_chars(value.data(), end, number);
  if (failure != std::errc{} || rest != end)
    throw UserError(fmt::format("{}: {} = {}: expected a whole number", place(*entry), key, value));
  return number;
}

std::vector<KeyFileSection> read_key_file(const std::string& path) {
  auto file = std::istringstream(read_file(path));
  auto sections = std::vector<KeyFileSection>{};
  auto* current = static_cast<KeyFileSection*>(nullptr);
  auto number = std::size_t{0};
  for (auto whole = std::string{}; std::getline(file, whole);) {
    ++number;
    const auto line = trim_front(whole);
    if (line.empty() || line.front() == '#') continue;
    if (line.front() == '[') {
      const auto close = line.rfind(']');
      if (close == std::string_view::npos || close == 1)
        throw UserError(fmt::format("{}:{}: expected a section such as [disk]", path, number));
      current = &section_named(sections, line.substr(1, close - 1), path, number);
      continue;
    }
    const auto equals = line.find('=');
    if (equals == std::string_view::npos || equals == 0)
      throw UserError(fmt::format("{}:{}: expected KEY = VALUE or [SECTION]", path, number));
    if (current == nullptr)
      throw UserError(fmt::format("{}:{}: stands before the first [SECTION]", path, number));
    current->entries.push_back({.key = std::string(trim_back(line.substr(0, equals))),
                                .value = unescape(trim_front(line.substr(equals + 1))),
                                .line = number});
  }
  return sections;
}

}  // namespace server
