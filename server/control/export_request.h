// An export within a request of the control socket: {"export": NAME, "path": FILE} and the other
// keys of an [[export]], called and written as in the file. Any thread.
#pragma once

#include <vector>

#include "server/config/config.h"
#include "server/control/control_argument.h"
#include "server/control/control_request.h"

namespace server {

std::vector<ControlArgument> export_request_arguments();

// The request has been checked against these arguments. Throws ControlError for a value that a key
// cannot have.
ExportConfig take_export(const ControlRequest& request);

}  // namespace server
