// The result of a reload of the configuration. A value.
#pragma once

#include <string>
#include <vector>

#include "server/live/export_changes.h"

namespace server {

struct Reloaded {
  ChangedNames exports;
  std::vector<std::string> need_restart;  // keys whose new values are not in use
};

}  // namespace server
