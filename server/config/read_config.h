// Reads the configuration from a TOML file: its form and each key of it. What only the whole shows
// is for validate.h. Any thread.
#pragma once

#include <string>
#include <string_view>

#include "server/config/config.h"

namespace server {

// Throws UserError with file, line and key.
Config read_config(const std::string& path);

// "auto", "on" or "off". Throws UserError.
engine::DirectIo parse_direct_io(std::string_view text);

// "off", "allow" or "require". Throws UserError.
proto::TlsMode parse_tls_mode(std::string_view text);

}  // namespace server
