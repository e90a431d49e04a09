// An export within a request of the control socket: {"export": NAME, "path": FILE} and the other
// keys of an [[export]], called and written as in the file. Any thread.
#pragma once

#include "server/config/config.h"
#include "server/control/control_request.h"

namespace server {

// Throws ControlError.
ExportConfig take_export(ControlRequest& request);

}  // namespace server
