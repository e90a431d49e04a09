#include "server/control/client/export_arguments.h"

#include <boost/json/array.hpp>
#include <boost/json/value.hpp>
#include <string>
#include <type_traits>
#include <variant>
#include <vector>

namespace server {
namespace {

namespace json = boost::json;

json::value to_json(const KeyValue& value) {
  return std::visit(
      [](const auto& alternative) -> json::value {
        using Alternative = std::decay_t<decltype(alternative)>;
        if constexpr (std::is_same_v<Alternative, std::monostate>) {
          return nullptr;
        } else if constexpr (std::is_same_v<Alternative, std::vector<std::string>>) {
          auto array = json::array{};
          for (const auto& text : alternative) array.emplace_back(text);
          return array;
        } else if constexpr (std::is_same_v<Alternative, std::string>) {
          return json::string_view(alternative);
        } else {
          return alternative;
        }
      },
      value);
}

}  // namespace

void put_export(json::object& arguments, const ExportArgument& argument,
                const KeyFlags<ExportConfig>& flags) {
  arguments["export"] = argument.name;
  arguments["path"] = argument.path;
  for (const auto& [key, value] : flags.given()) {
    if (key->table.empty())
      arguments[key->name] = to_json(value);
    else if (auto* const table = arguments.if_contains(key->table))
      table->as_object()[key->name] = to_json(value);
    else
      arguments[key->table] = {{key->name, to_json(value)}};
  }
}

}  // namespace server
