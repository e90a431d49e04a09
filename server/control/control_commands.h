// The table of all commands of the control socket, and their dispatch.
#pragma once

#include <string>
#include <vector>

#include "server/base/asio.h"
#include "server/control/control_command.h"

namespace server {

// In the order in which people are shown them. Any thread.
const std::vector<ControlCommand>& control_commands();

// The reply to one request, a line. Does not throw. The targets outlive the coroutine; the
// accepting thread.
Awaitable<std::string> answer_control_request(const ControlTargets& targets, std::string line);

}  // namespace server
