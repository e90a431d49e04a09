#include "server/config/read_config.h"

#include <fmt/format.h>

#include <algorithm>
#include <optional>
#include <span>
#include <stdexcept>
#include <string_view>
#include <type_traits>
#include <utility>
#include <vector>

#include "server/base/read_file.h"
#include "server/base/user_error.h"
#include "server/config/export_argument.h"
#include "server/config/keys.h"
#include "server/config/toml.h"

namespace server {
namespace {

// A table of the file, for messages. The path outlives it.
class Place {
 public:
  Place(const std::string& path, std::string prefix) : path_(path), prefix_(std::move(prefix)) {}

  Place within(std::string_view table) const {
    return {path_, fmt::format("{}{}.", prefix_, table)};
  }

  std::string of(const toml::node& node, std::string_view key) const {
    return fmt::format("{}:{}: {}{}", path_, node.source().begin.line, prefix_, key);
  }

  [[noreturn]] void fail(const toml::node& node, std::string_view key, std::string_view why) const {
    throw UserError(fmt::format("{}: {}", of(node, key), why));
  }

  Places of_keys(const toml::table& table) const {
    auto places = Places{};
    for (const auto& [key, node] : table) places.by_key.emplace(key.str(), of(node, key.str()));
    return places;
  }

 private:
  const std::string& path_;
  std::string prefix_;
};

KeyValue value_of(const toml::node& node) {
  if (const auto truth = node.value_exact<bool>()) return *truth;
  if (const auto number = node.value_exact<std::int64_t>()) return *number;
  if (const auto real = node.value_exact<double>()) return *real;
  if (const auto text = node.value_exact<std::string>()) return *text;
  if (!node.is_array()) return {};
  auto texts = std::vector<std::string>{};
  for (const auto& element : *node.as_array()) {
    const auto text = element.value_exact<std::string>();
    if (!text) return {};
    texts.push_back(*text);
  }
  return texts;
}

template <typename Owner>
void assign(const Key<Owner>& key, Owner& owner, const KeyValue& value, const Place& place,
            const toml::node& node) {
  try {
    key.assign(owner, value);
  } catch (const std::runtime_error& error) {
    place.fail(node, key.name, error.what());
  }
}

template <typename Owner>
void read_key(const Key<Owner>& key, Owner& owner, const Place& place, const toml::node& node) {
  // An element that cannot be is refused at its own line.
  if (const auto* const array = node.as_array();
      array != nullptr && key.type.form == KeyType::Form::list)
    for (const auto& element : *array) {
      auto alone = Owner{};
      const auto text = element.value_exact<std::string>();
      const auto value = text ? KeyValue(std::vector{*text}) : KeyValue();
      assign(key, alone, value, place, element);
    }
  assign(key, owner, value_of(node), place, node);
}

// A name and its value, read in the order of the file, so that the first mistake is named first.
struct Entry {
  std::string_view name;
  const toml::node* node;
};

std::vector<Entry> entries_of(const toml::table& table) {
  auto entries = std::vector<Entry>{};
  for (const auto& [key, node] : table) entries.push_back({key.str(), &node});
  std::ranges::stable_sort(entries, {}, [](const Entry& entry) {
    const auto begin = entry.node->source().begin;
    return std::pair(begin.line, begin.column);
  });
  return entries;
}

[[noreturn]] void fail_unknown(const Place& place, const Entry& entry,
                               const std::vector<std::string>& known) {
  place.fail(*entry.node, entry.name,
             fmt::format("unknown key; the known ones here are {}", fmt::join(known, ", ")));
}

// The keys of one table, and the tables in it. `others` are the names that the caller reads.
template <typename Owner>
void read_table(std::span<const Key<Owner>> keys, std::string_view name, const toml::table& table,
                const Place& place, Owner& owner, const std::vector<std::string>& others = {}) {
  auto known = known_names(keys, name);
  known.insert(known.end(), others.begin(), others.end());
  for (const auto& entry : entries_of(table)) {
    if (std::ranges::count(known, entry.name) == 0) fail_unknown(place, entry, known);
    if (std::ranges::count(others, entry.name) > 0) continue;
    const auto key = std::ranges::find_if(
        keys, [&](const auto& row) { return row.table == name && row.name == entry.name; });
    if (key != keys.end()) {
      read_key(*key, owner, place, *entry.node);
      continue;
    }
    if (!entry.node->is_table())
      place.fail(
          *entry.node, entry.name,
          fmt::format("expected a table: write [{}{}] and its keys below it, or {} = {{ {} = "
                      "… }}",
                      std::is_same_v<Owner, Config> ? "" : "export.", entry.name, entry.name,
                      known_names(keys, entry.name).front()));
    read_table(keys, entry.name, *entry.node->as_table(), place.within(entry.name), owner);
  }
}

ExportConfig read_export(const toml::table& table, const std::string& path, std::size_t index) {
  const auto place = Place(path, fmt::format("export[{}].", index));
  auto config = ExportConfig{};
  read_table(export_keys(), "", table, place, config);
  if (config.path.empty())
    throw UserError(
        fmt::format("{}:{}: export[{}]: no \"path\": say which file or block device it is, as in "
                    "path = \"/srv/disk.img\"",
                    path, table.source().begin.line, index));
  if (config.name.empty()) config.name = default_export_name(config.path);
  config.places = place.of_keys(table);
  return config;
}

void read_exports(const toml::table& table, const std::string& path, Config& config) {
  const auto place = Place(path, "");
  const auto* const node = table.get("export");
  if (node == nullptr) return;
  const auto* const array = node->as_array();
  if (array == nullptr)
    place.fail(*node, "export", "write [[export]] with two brackets: there may be several");
  for (const auto& element : *array) {
    if (!element.is_table())
      place.fail(element, "export", "write [[export]] and its keys below it");
    config.exports.push_back(read_export(*element.as_table(), path, config.exports.size()));
  }
}

}  // namespace

Config read_config(const std::string& path) {
  const auto table = parse_toml(read_file(path), path);
  const auto place = Place(path, "");
  auto config = Config{};
  read_table(server_keys(), "", table, place, config, {"export"});
  config.places = place.of_keys(table);
  if (const auto* const tls = table["tls"].as_table()) {
    config.tls.places = place.within("tls").of_keys(*tls);
    // An operator who gives the server a key and no mode wants the key to be used.
    if (!tls->contains("mode")) config.tls.mode = proto::TlsMode::require;
  }
  read_exports(table, path, config);
  return config;
}

}  // namespace server
