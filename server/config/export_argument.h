// [NAME=]FILE, as `serve` and `ctl add` take it. Pure functions; any thread.
#pragma once

#include <string>
#include <string_view>

namespace server {

struct ExportArgument {
  std::string name;  // not empty
  std::string path;  // not empty
};

// Throws UserError when the name or the path is empty.
ExportArgument parse_export_argument(std::string_view text);

// The name of an export that is given none: its path without the folders.
std::string default_export_name(std::string_view path);

}  // namespace server
