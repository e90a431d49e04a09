// What can be asked for through the control socket. Used on the accepting thread.
#pragma once

#include <string>

#include "server/base/asio.h"

namespace server {

class Server;

// The reply to one request, a line. Does not throw. The server outlives the coroutine.
Awaitable<std::string> answer_control_request(Server& server, std::string line);

}  // namespace server
