#include "server/control/export_request.h"

#include <fmt/format.h>

#include <algorithm>
#include <boost/json/array.hpp>
#include <boost/json/value.hpp>
#include <set>
#include <stdexcept>
#include <string>
#include <vector>

#include "server/config/keys.h"

namespace server {
namespace {

namespace json = boost::json;

KeyValue from_json(const json::value& value) {
  if (value.is_bool()) return value.get_bool();
  if (value.is_int64()) return value.get_int64();
  if (value.is_double()) return value.get_double();
  if (value.is_string()) return std::string(value.get_string());
  if (!value.is_array()) return {};
  auto texts = std::vector<std::string>{};
  for (const auto& element : value.get_array()) {
    if (!element.is_string()) return {};
    texts.emplace_back(element.get_string());
  }
  return texts;
}

// "export" has always been the name's argument, in all commands.
std::string argument_of(const ExportKey& key) { return key.name == "name" ? "export" : key.name; }

void assign(const ExportKey& key, ExportConfig& config, const json::value& value) {
  try {
    key.assign(config, from_json(value));
  } catch (const std::runtime_error& error) {
    throw ControlError(fmt::format("\"{}\": {}", key.full_name(), error.what()));
  }
}

// The keys of a table within an export.
void take_table(const ControlRequest& request, const std::string& table, ExportConfig& config) {
  const auto* const value = request.take(table);
  if (value == nullptr) return;
  if (!value->is_object()) throw ControlError(fmt::format("\"{}\": expected an object", table));
  const auto& members = value->get_object();
  auto known = std::set<std::string>{};
  for (const auto& key : export_keys()) {
    if (key.table != table) continue;
    known.insert(key.name);
    if (const auto* const member = members.if_contains(key.name)) assign(key, config, *member);
  }
  for (const auto& member : members)
    if (!known.contains(std::string(member.key())))
      throw ControlError(fmt::format("\"{}.{}\" is not an argument of {}", table,
                                     std::string(member.key()), request.command()));
}

}  // namespace

std::vector<ControlArgument> export_request_arguments() {
  auto arguments = std::vector<ControlArgument>{
      {.name = "path",
       .flag = "FILE",
       .kind = ControlArgument::Kind::named_file,
       .help = "[NAME=]FILE",
       .needed = true},
      {.name = "export", .needed = true},
  };
  for (const auto& key : export_keys()) {
    const auto name = key.table.empty() ? argument_of(key) : key.table;
    if (std::ranges::find(arguments, name, &ControlArgument::name) == arguments.end())
      arguments.push_back({.name = name, .kind = ControlArgument::Kind::export_key});
  }
  return arguments;
}

ExportConfig take_export(const ControlRequest& request) {
  auto config = ExportConfig{};
  config.name = request.take_needed_text("export");
  config.path = request.take_needed_text("path");
  auto tables = std::set<std::string>{};
  for (const auto& key : export_keys()) {
    if (!key.table.empty()) {
      if (tables.insert(key.table).second) take_table(request, key.table, config);
    } else if (const auto* const value = request.take(argument_of(key))) {
      assign(key, config, *value);
    }
  }
  return config;
}

}  // namespace server
