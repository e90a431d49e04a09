#include "server/config/export_argument.h"

#include <fmt/format.h>

#include "server/base/user_error.h"

namespace server {

std::string default_export_name(std::string_view path) {
  return std::string(path.substr(path.rfind('/') + 1));
}

ExportArgument parse_export_argument(std::string_view text) {
  // A NAME has no slash, so that a path with an equals sign in a folder's name stays a path.
  const auto equals = text.find('=');
  const auto slash = text.find('/');
  const auto named =
      equals != std::string_view::npos && (slash == std::string_view::npos || equals < slash);
  auto argument = ExportArgument{};
  argument.path = named ? text.substr(equals + 1) : text;
  argument.name = named ? std::string(text.substr(0, equals)) : default_export_name(text);
  if (argument.path.empty() || argument.name.empty())
    throw UserError(fmt::format("\"{}\": expected FILE or NAME=FILE", text));
  return argument;
}

}  // namespace server
