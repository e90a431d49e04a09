// The commands that change an export while its clients stay attached: its device, its size, its
// limits.
#pragma once

#include <vector>

#include "server/control/control_command.h"

namespace server {

std::vector<ControlCommand> export_commands();

}  // namespace server
