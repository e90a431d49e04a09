// A command of the control socket, for the files that implement some. Used on the accepting thread.
#pragma once

#include <boost/json/object.hpp>
#include <span>
#include <string>
#include <string_view>

#include "server/base/asio.h"
#include "server/control/control_request.h"

namespace server {

class Server;

struct ControlCommand {
  std::string_view name;
  // Gives the result; its "text" is for people. Throws with a message for people.
  Awaitable<boost::json::object> (*perform)(Server& server, ControlRequest request);
};

std::span<const ControlCommand> export_commands();  // on the device under an export, and its limits
std::span<const ControlCommand> status_commands();  // that look and change nothing

boost::json::object text_result(const std::string& text);

}  // namespace server
