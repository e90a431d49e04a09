// The commands that look at the server and change nothing: `status` and `connections`.
#pragma once

#include <vector>

#include "server/control/control_command.h"

namespace server {

std::vector<ControlCommand> status_commands();

}  // namespace server
