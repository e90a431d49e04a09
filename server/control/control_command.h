// A command of the control socket: a row of the table that the server's dispatch and the command
// line of `loopnbd ctl` come from. The rows stand beside their handlers; control_commands.h has
// all of them.
#pragma once

#include <boost/json/object.hpp>
#include <string>
#include <vector>

#include "server/base/asio.h"
#include "server/control/control_argument.h"
#include "server/control/control_request.h"

namespace server {

struct ControlTargets;

struct ControlCommand {
  std::string name;
  std::string help;
  std::vector<ControlArgument> arguments = {};
  bool one_argument = false;  // exactly one of them is given
  // Gives the result; its "text" is for people. The request has been checked against `arguments`.
  // Throws with a message for people. The targets outlive the coroutine; the accepting thread.
  Awaitable<boost::json::object> (*perform)(const ControlTargets& targets, ControlRequest request);
};

// The argument that most commands begin with.
ControlArgument export_argument();

boost::json::object text_result(const std::string& text);

}  // namespace server
