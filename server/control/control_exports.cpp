#include "server/control/control_exports.h"

#include <fmt/format.h>

#include <chrono>
#include <memory>
#include <utility>

#include "server/base/log.h"
#include "server/control/control_targets.h"
#include "server/live/direct_io_change.h"
#include "server/live/file_swap.h"
#include "server/live/resize.h"

namespace server {
namespace {

namespace json = boost::json;
using Kind = ControlArgument::Kind;

// A forgotten pause must not hold clients up for ever.
constexpr std::uint64_t pause_default_seconds = 60;
constexpr std::uint64_t pause_max_seconds = 3600;

Awaitable<json::object> resize(const ControlTargets& targets, ControlRequest request) {
  const auto name = request.take_needed_text("export");
  const auto size = request.take_number("size");
  const auto force = request.take_flag("force");
  const auto change = std::make_shared<Resize>(size, force);
  const auto target = co_await targets.exports.change_device(name, change);
  const auto now = target->device()->size();
  auto result = text_result(
      fmt::format("export \"{}\" has {} bytes, for clients that attach from now on", name, now));
  result["size"] = now;
  co_return result;
}

Awaitable<json::object> direct_io(const ControlTargets& targets, ControlRequest request) {
  const auto name = request.take_needed_text("export");
  const auto mode = request.take_needed_text("mode");
  const auto change = std::make_shared<DirectIoChange>(mode == "on");
  co_await targets.exports.change_device(name, change);
  co_return text_result(
      fmt::format("export \"{}\": {} I/O", name, mode == "on" ? "direct" : "buffered"));
}

Awaitable<json::object> swap(const ControlTargets& targets, ControlRequest request) {
  const auto name = request.take_needed_text("export");
  const auto path = request.take_needed_text("path");
  const auto change = std::make_shared<FileSwap>(path);
  co_await targets.exports.change_device(name, change);
  co_return text_result(fmt::format("export \"{}\": {}", name, path));
}

Awaitable<json::object> pause(const ControlTargets& targets, ControlRequest request) {
  const auto name = request.take_needed_text("export");
  const auto seconds = request.take_number("seconds").value_or(pause_default_seconds);
  co_await targets.exports.pause(name, std::chrono::seconds(seconds));
  co_return text_result(fmt::format(
      "export \"{}\" is paused, for {} s at most; all that was acknowledged is on the disk", name,
      seconds));
}

Awaitable<json::object> resume(const ControlTargets& targets, ControlRequest request) {
  const auto name = request.take_needed_text("export");
  co_await targets.exports.resume(name);
  co_return text_result(fmt::format("export \"{}\" is resumed", name));
}

Awaitable<json::object> clear_sync_error(const ControlTargets& targets, ControlRequest request) {
  const auto name = request.take_needed_text("export");
  co_await targets.exports.clear_sync_error(name);
  co_return text_result(
      fmt::format("export \"{}\": its sync error is cleared; flushes succeed again", name));
}

std::string describe(const RateLimits& limits) {
  if (!limits.any()) return "none";
  auto texts = std::vector<std::string>{};
  for (const auto& rate : rates)
    if (limits.*rate.value != 0)
      texts.push_back(fmt::format("{} = {}", rate.name, limits.*rate.value));
  return fmt::format("{}, burst_seconds = {}", fmt::join(texts, ", "), limits.burst_seconds);
}

// A rate that is not named stays as it is; 0 takes its limit away.
void change(const ControlRequest& request, RateLimits& limits) {
  for (const auto& rate : rates)
    limits.*rate.value = request.take_number(rate.name).value_or(limits.*rate.value);
  limits.burst_seconds = request.take_real("burst_seconds").value_or(limits.burst_seconds);
  if (!(limits.burst_seconds >= 0 && limits.burst_seconds <= burst_seconds_max))
    throw ControlError(fmt::format("burst_seconds is a number from 0 to {}", burst_seconds_max));
}

Awaitable<json::object> limit(const ControlTargets& targets, ControlRequest request) {
  const auto name = request.take_needed_text("export");
  const auto per_client = request.take_flag("per_client");
  const auto target = targets.exports.find(name);
  auto all = target->limiter().all();
  auto each_client = target->limiter().each_client();
  change(request, per_client ? each_client : all);
  co_await targets.exports.limit(name, all, each_client);
  const auto text = fmt::format("export \"{}\": limits: {}; of each client: {}", name,
                                describe(all), describe(each_client));
  log::info("{}", text);
  co_return text_result(text);
}

ControlCommand resize_command() {
  return {.name = "resize",
          .help = "Give an export another size, for clients that attach from now on",
          .arguments = {export_argument(),
                        {.name = "size",
                         .flag = "SIZE",
                         .kind = Kind::size,
                         .help = "In bytes (K, M, G, T); a file is made longer for it. Default: "
                                 "all of the file"},
                        {.name = "force",
                         .flag = "--force",
                         .kind = Kind::flag,
                         .help = "Even if smaller; its clients are disconnected"}},
          .perform = resize};
}

ControlCommand direct_io_command() {
  return {.name = "direct-io",
          .help = "Serve past the page cache, or through it",
          .arguments = {export_argument(),
                        {.name = "mode", .flag = "MODE", .needed = true, .choices = {"on", "off"}}},
          .perform = direct_io};
}

ControlCommand swap_command() {
  return {.name = "swap",
          .help = "Put another file of the same size under a read-only export",
          .arguments = {export_argument(),
                        {.name = "path", .flag = "FILE", .kind = Kind::path, .needed = true}},
          .perform = swap};
}

ControlCommand pause_command() {
  return {.name = "pause",
          .help = "Sync, and begin no request until resume: for a consistent snapshot",
          .arguments = {export_argument(),
                        {.name = "seconds",
                         .flag = "--for",
                         .kind = Kind::number,
                         .help = "Resume by itself after so many seconds; default: 60",
                         .number_min = 1,
                         .number_max = pause_max_seconds}},
          .perform = pause};
}

ControlCommand limit_command() {
  auto command =
      ControlCommand{.name = "limit",
                     .help = "Limit an export's rates; what is not named stays, 0 ends a limit",
                     .arguments = {export_argument(),
                                   {.name = "per_client",
                                    .flag = "--per-client",
                                    .kind = Kind::flag,
                                    .help = "Of each client address, not of all together"}},
                     .perform = limit};
  for (const auto& rate : rates)
    command.arguments.push_back(
        {.name = rate.name, .flag = rate.flag, .kind = Kind::size, .help = rate.what});
  command.arguments.push_back({.name = "burst_seconds",
                               .flag = "--burst-seconds",
                               .kind = Kind::real,
                               .help = "How much of it may be used at once; default: 0.1"});
  return command;
}

}  // namespace

std::vector<ControlCommand> export_commands() {
  return {resize_command(),
          direct_io_command(),
          swap_command(),
          pause_command(),
          {.name = "resume",
           .help = "End a pause",
           .arguments = {export_argument()},
           .perform = resume},
          {.name = "clear-sync-error",
           .help = "Let flushes succeed again after a failed sync: the disk and the image are good",
           .arguments = {export_argument()},
           .perform = clear_sync_error},
          limit_command()};
}

}  // namespace server
