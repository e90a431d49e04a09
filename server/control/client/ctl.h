// `loopnbd ctl`: asks a running server through its control socket and prints the answer.
#pragma once

#include "server/control/client/ctl_command_line.h"

namespace server {

// The exit status. Throws std::runtime_error with a message for people when the server cannot be
// asked or refuses.
int run_ctl(const Ctl& ctl);

}  // namespace server
