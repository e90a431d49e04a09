// `loopnbd attach`, `detach` and `devices`.
#pragma once

#include "server/attach/attach_command.h"

namespace server {

// Carries the command out and returns the exit status. Throws exceptions whose messages are for
// people.
int run(const AttachCommand& command);

}  // namespace server
