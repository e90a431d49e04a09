#include "server/control/control_status.h"

#include <chrono>
#include <utility>

#include "server/control/control_targets.h"
#include "server/watch/status_json.h"

namespace server {
namespace {

namespace json = boost::json;

// A worker that does not answer by then is said not to respond.
constexpr auto status_deadline = std::chrono::milliseconds(1000);

Awaitable<json::object> show_status(const ControlTargets& targets, ControlRequest) {
  const auto status = co_await targets.status(status_deadline);
  co_return json_of(status);
}

Awaitable<json::object> show_connections(const ControlTargets& targets, ControlRequest) {
  const auto status = co_await targets.status(status_deadline);
  auto shown = json_of(status);
  auto result = json::object{};
  result["connections"] = std::move(shown.at("connections"));
  co_return result;
}

}  // namespace

std::vector<ControlCommand> status_commands() {
  return {
      {.name = "status", .help = "What it serves, how, and to how many", .perform = show_status},
      {.name = "connections",
       .help = "Its clients, and what they have done",
       .perform = show_connections}};
}

}  // namespace server
