// Reads the configuration from a TOML file: its form, and each key as keys.h has it. The checks of
// the whole are in validate.h. Any thread.
#pragma once

#include <string>

#include "server/config/config.h"

namespace server {

// Throws UserError with file, line and key.
Config read_config(const std::string& path);

}  // namespace server
