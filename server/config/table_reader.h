// One table of a TOML configuration: takes its keys one by one, and refuses what is of the wrong
// type or is not known, with file, line and key. Used while the configuration is read, by one
// thread; the table and the path outlive the reader.
#pragma once

#include <fmt/format.h>

#include <cstdint>
#include <optional>
#include <set>
#include <stdexcept>
#include <string>
#include <string_view>
#include <utility>

#include "server/base/user_error.h"
#include "server/config/parse_size.h"
#include "server/config/toml.h"

namespace server {

class TableReader {
 public:
  TableReader(const toml::table& table, const std::string& path, std::string prefix)
      : table_(table), path_(path), prefix_(std::move(prefix)) {}

  const toml::node* take(std::string_view key) {
    taken_.emplace(key);
    return table_.get(key);
  }

  template <typename T>
  std::optional<T> take_value(std::string_view key, std::string_view expected) {
    const auto* const node = take(key);
    if (node == nullptr) return std::nullopt;
    auto value = node->value_exact<T>();
    if (!value) fail(*node, key, fmt::format("expected {}", expected));
    return value;
  }

  // A number of bytes: an integer or a text with a suffix.
  std::optional<std::uint64_t> take_size(std::string_view key) {
    const auto* const node = take(key);
    if (node == nullptr) return std::nullopt;
    if (const auto number = node->value_exact<std::int64_t>(); number && *number >= 0)
      return static_cast<std::uint64_t>(*number);
    const auto text = node->value_exact<std::string>();
    if (!text) fail(*node, key, "expected a size such as 1048576 or \"64M\"");
    return checked(*node, key, [&] { return parse_size(*text); });
  }

  std::optional<std::uint32_t> take_count(std::string_view key, std::uint32_t most,
                                          std::uint32_t least = 1) {
    const auto* const node = take(key);
    if (node == nullptr) return std::nullopt;
    const auto number = node->value_exact<std::int64_t>();
    if (!number || *number < least || *number > most)
      fail(*node, key, fmt::format("expected a whole number from {} to {}", least, most));
    return static_cast<std::uint32_t>(*number);
  }

  // Runs `parse`, giving its complaint the place in the file.
  template <typename Parse>
  auto checked(const toml::node& node, std::string_view key, Parse parse) -> decltype(parse()) {
    try {
      return parse();
    } catch (const std::runtime_error& error) {
      fail(node, key, error.what());
    }
  }

  void finish(std::string_view known) {
    for (const auto& [key, node] : table_)
      if (!taken_.contains(key.str()))
        fail(node, key.str(), fmt::format("unknown key; the known ones here are {}", known));
  }

  std::string place(const toml::node& node, std::string_view key) const {
    return fmt::format("{}:{}: {}{}", path_, node.source().begin.line, prefix_, key);
  }

  [[noreturn]] void fail(const toml::node& node, std::string_view key, std::string_view why) {
    throw UserError(fmt::format("{}: {}", place(node, key), why));
  }

 private:
  const toml::table& table_;
  const std::string& path_;
  std::string prefix_;
  std::set<std::string, std::less<>> taken_;
};

}  // namespace server
