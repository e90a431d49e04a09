// The commands that look at the server: `status` and `connections`.
#include <array>
#include <chrono>
#include <utility>

#include "server/control/control_command.h"
#include "server/server.h"
#include "server/watch/status_json.h"

namespace server {
namespace {

namespace json = boost::json;

// A worker that does not answer by then is said not to respond.
constexpr auto status_deadline = std::chrono::milliseconds(1000);

Awaitable<json::object> show_status(Server& server, ControlRequest request) {
  request.finish();
  const auto status = co_await server.status(status_deadline);
  co_return json_of(status);
}

Awaitable<json::object> show_connections(Server& server, ControlRequest request) {
  auto shown = co_await show_status(server, std::move(request));
  auto result = json::object{};
  result["connections"] = std::move(shown.at("connections"));
  co_return result;
}

constexpr auto commands = std::array{
    ControlCommand{"status", show_status},
    ControlCommand{"connections", show_connections},
};

}  // namespace

std::span<const ControlCommand> status_commands() { return commands; }

}  // namespace server
