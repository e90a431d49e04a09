// The command line. Standard output and error belong to it only for --help, --version and wrong
// usage.
#pragma once

#include <cstdint>
#include <functional>
#include <optional>
#include <string>
#include <variant>

#include "server/attach/attach_command.h"
#include "server/config/config.h"
#include "server/control/client/ctl_command_line.h"

namespace server {

struct Serve {
  Config config;
  // Reads the file again, with the same flags before it; absent without a file. Throws UserError.
  std::function<Config()> reread;
};
struct CheckConfig {
  std::string path;
};
struct ImportConfig {
  std::string path;
};
struct Exit {
  int status = 0;
};

using Command = std::variant<Serve, CheckConfig, ImportConfig, AttachCommand, Ctl, Exit>;

// Parses the command line. Exit when everything is said already (help, version, a usage error).
// Throws UserError for values that cannot be.
Command parse_command_line(int argc, const char* const* argv);

}  // namespace server
