// The commands that change an export while its clients stay attached.
#include <fmt/format.h>

#include <array>
#include <memory>
#include <utility>

#include "server/base/log.h"
#include "server/control/control_command.h"
#include "server/live/direct_io_change.h"
#include "server/live/file_swap.h"
#include "server/live/resize.h"
#include "server/server.h"

namespace server {
namespace {

namespace json = boost::json;

// A forgotten pause must not hold clients up for ever.
constexpr std::uint64_t pause_default_seconds = 60;
constexpr std::uint64_t pause_max_seconds = 3600;

Awaitable<json::object> resize(Server& server, ControlRequest request) {
  const auto name = request.take_needed_text("export");
  const auto size = request.take_number("size");
  const auto force = request.take_flag("force");
  request.finish();
  const auto change = std::make_shared<Resize>(size, force);
  const auto target = co_await server.exports().change_device(name, change);
  const auto now = target->device()->size();
  auto result = text_result(
      fmt::format("export \"{}\" has {} bytes, for clients that attach from now on", name, now));
  result["size"] = now;
  co_return result;
}

Awaitable<json::object> direct_io(Server& server, ControlRequest request) {
  const auto name = request.take_needed_text("export");
  const auto mode = request.take_needed_text("mode");
  request.finish();
  if (mode != "on" && mode != "off")
    throw ControlError(fmt::format("\"{}\" is not one of on, off", mode));
  const auto change = std::make_shared<DirectIoChange>(mode == "on");
  co_await server.exports().change_device(name, change);
  co_return text_result(
      fmt::format("export \"{}\": {} I/O", name, mode == "on" ? "direct" : "buffered"));
}

Awaitable<json::object> swap(Server& server, ControlRequest request) {
  const auto name = request.take_needed_text("export");
  const auto path = request.take_needed_text("path");
  request.finish();
  const auto change = std::make_shared<FileSwap>(path);
  co_await server.exports().change_device(name, change);
  co_return text_result(fmt::format("export \"{}\": {}", name, path));
}

Awaitable<json::object> pause(Server& server, ControlRequest request) {
  const auto name = request.take_needed_text("export");
  const auto seconds = request.take_number("seconds").value_or(pause_default_seconds);
  request.finish();
  if (seconds == 0 || seconds > pause_max_seconds)
    throw ControlError(fmt::format("a pause lasts from 1 to {} seconds", pause_max_seconds));
  co_await server.exports().pause(name, std::chrono::seconds(seconds));
  co_return text_result(fmt::format(
      "export \"{}\" is paused, for {} s at most; all that was acknowledged is on the disk", name,
      seconds));
}

Awaitable<json::object> resume(Server& server, ControlRequest request) {
  const auto name = request.take_needed_text("export");
  request.finish();
  co_await server.exports().resume(name);
  co_return text_result(fmt::format("export \"{}\" is resumed", name));
}

std::string describe(const RateLimits& limits) {
  if (!limits.any()) return "none";
  auto texts = std::vector<std::string>{};
  for (const auto& rate : rates)
    if (limits.*rate.value != 0)
      texts.push_back(fmt::format("{} = {}", rate.name, limits.*rate.value));
  return fmt::format("{}, burst_seconds = {}", fmt::join(texts, ", "), limits.burst_seconds);
}

// What is not named stays as it is; 0 takes a limit away.
void change(ControlRequest& request, RateLimits& limits) {
  for (const auto& rate : rates)
    limits.*rate.value = request.take_number(rate.name).value_or(limits.*rate.value);
  limits.burst_seconds = request.take_real("burst_seconds").value_or(limits.burst_seconds);
  if (!(limits.burst_seconds >= 0 && limits.burst_seconds <= burst_seconds_max))
    throw ControlError(fmt::format("burst_seconds is a number from 0 to {}", burst_seconds_max));
}

Awaitable<json::object> limit(Server& server, ControlRequest request) {
  const auto name = request.take_needed_text("export");
  const auto per_client = request.take_flag("per_client");
  const auto target = server.exports().find(name);
  auto all = target->limiter().all();
  auto each_client = target->limiter().each_client();
  change(request, per_client ? each_client : all);
  request.finish();
  co_await server.exports().limit(name, all, each_client);
  const auto text = fmt::format("export \"{}\": limits: {}; of each client: {}", name,
                                describe(all), describe(each_client));
  log::info("{}", text);
  co_return text_result(text);
}

constexpr auto commands = std::array{
    ControlCommand{"resize", resize}, ControlCommand{"direct-io", direct_io},
    ControlCommand{"swap", swap},     ControlCommand{"pause", pause},
    ControlCommand{"resume", resume}, ControlCommand{"limit", limit},
};

}  // namespace

std::span<const ControlCommand> export_commands() { return commands; }

}  // namespace server
