#include "server/control/control_commands.h"

#include <fmt/format.h>

#include <algorithm>
#include <boost/json/array.hpp>
#include <boost/json/value_from.hpp>
#include <exception>
#include <utility>

#include "server/base/log.h"
#include "server/base/log_names.h"
#include "server/base/text.h"
#include "server/config/validate.h"
#include "server/control/control_exports.h"
#include "server/control/control_status.h"
#include "server/control/control_targets.h"
#include "server/control/export_request.h"

namespace server {
namespace {

namespace json = boost::json;
using Kind = ControlArgument::Kind;

json::array to_json(const std::vector<std::string>& names) {
  auto array = json::array{};
  for (const auto& name : names) array.emplace_back(name);
  return array;
}

Departure take_departure(const ControlRequest& request, Departure otherwise) {
  const auto departure = request.take_text("departure");
  if (!departure) return otherwise;
  if (*departure == "keep") return Departure::keep;
  return *departure == "drain" ? Departure::drain : Departure::now;
}

Awaitable<json::object> reload(const ControlTargets& targets, ControlRequest request) {
  const auto departure = take_departure(request, Departure::keep);
  const auto reloaded = co_await targets.reload(departure);
  const auto& names = reloaded.exports;
  auto text = fmt::format("exports added: {}; changed: {}; removed: {}", joined(names.added),
                          joined(names.changed), joined(names.removed));
  if (!reloaded.need_restart.empty())
    text += fmt::format("\nnot in use before a restart: {}", joined(reloaded.need_restart));
  auto result = text_result(text);
  result["added"] = to_json(names.added);
  result["changed"] = to_json(names.changed);
  result["removed"] = to_json(names.removed);
  result["need_restart"] = to_json(reloaded.need_restart);
  co_return result;
}

Awaitable<json::object> add(const ControlTargets& targets, ControlRequest request) {
  const auto config = take_export(request);
  auto edit = LiveExports::Edit([config, &tls = targets.tls](LiveExports::Configs configs) {
    configs.push_back(config);
    check_exports(configs, tls);
    return configs;
  });
  auto terms = LiveExports::Terms();
  co_await targets.exports.change(std::move(edit), std::move(terms));
  log::info("export \"{}\" added: {}", config.name, config.path);
  co_return text_result(fmt::format("export \"{}\" is offered: {}", config.name, config.path));
}

Awaitable<json::object> remove(const ControlTargets& targets, ControlRequest request) {
  const auto name = request.take_needed_text("export");
  const auto departure = take_departure(request, Departure::drain);
  auto edit = LiveExports::Edit([name](LiveExports::Configs configs) {
    if (std::erase_if(configs, [&](const auto& entry) { return entry.name == name; }) == 0)
      throw ControlError(fmt::format("there is no export \"{}\"", name));
    return configs;
  });
  auto terms = LiveExports::Terms();
  terms.departure = departure;
  co_await targets.exports.change(std::move(edit), std::move(terms));
  log::info("export \"{}\" removed", name);
  co_return text_result(fmt::format("export \"{}\" is no longer offered", name));
}

Awaitable<json::object> disconnect(const ControlTargets& targets, ControlRequest request) {
  const auto id = request.take_number("connection");
  const auto name = request.take_text("export");
  const auto count = co_await targets.exports.end_connections(id, name, Departure::now);
  if (count == 0 && id) throw ControlError(fmt::format("there is no connection {}", *id));
  auto result = text_result(fmt::format("{} disconnected", count));
  result["count"] = count;
  co_return result;
}

Awaitable<json::object> drain(const ControlTargets& targets, ControlRequest request) {
  const auto name = request.take_text("export");
  if (!name) {
    targets.stop();
    co_return text_result("finishing what is in flight, then ending");
  }
  const auto count = co_await targets.exports.end_connections(std::nullopt, name, Departure::drain);
  auto result = text_result(
      fmt::format("{} connection{} told to finish", count, count == 1 ? " was" : "s were"));
  result["count"] = count;
  co_return result;
}

Awaitable<json::object> log_level(const ControlTargets&, ControlRequest request) {
  const auto level = request.take_needed_text("level");
  log::set_level(level);
  co_return text_result(fmt::format("the log level is {}", level));
}

// `--drain` and `--now`, of which at most one is given.
std::vector<ControlArgument> departures(const std::string& drain) {
  const auto choices = std::vector<std::string>{"keep", "drain", "now"};
  return {{.name = "departure",
           .flag = "--drain",
           .help = drain,
           .choices = choices,
           .chosen = "drain"},
          {.name = "departure",
           .flag = "--now",
           .help = "Disconnect their clients at once",
           .choices = choices,
           .chosen = "now"}};
}

ControlCommand reload_command() {
  return {.name = "reload",
          .help = "Read the configuration again",
          .arguments = departures("Let clients of changed and removed exports finish, then go"),
          .perform = reload};
}

ControlCommand add_command() {
  return {.name = "add",
          .help = "Offer another file",
          .arguments = export_request_arguments(),
          .perform = add};
}

ControlCommand remove_command() {
  auto arguments = departures("Let its clients finish what they have sent, then go (default)");
  arguments.insert(arguments.begin(), export_argument());
  return {.name = "remove",
          .help = "Offer an export no longer",
          .arguments = std::move(arguments),
          .perform = remove};
}

ControlCommand disconnect_command() {
  return {
      .name = "disconnect",
      .help = "End connections at once",
      .arguments = {{.name = "connection",
                     .flag = "CONNECTION",
                     .kind = Kind::number,
                     .help = "Its number, as `connections` shows it"},
                    {.name = "export", .flag = "--export", .help = "All connections of an export"}},
      .one_argument = true,
      .perform = disconnect};
}

ControlCommand drain_command() {
  return {.name = "drain",
          .help = "Let clients finish what they have sent, then end the server",
          .arguments = {{.name = "export",
                         .flag = "EXPORT",
                         .help = "End only the connections of this export"}},
          .perform = drain};
}

ControlCommand log_level_command() {
  return {.name = "log-level",
          .help = "Log more or less",
          .arguments = {{.name = "level",
                         .flag = "LEVEL",
                         .needed = true,
                         .choices = {log::levels().begin(), log::levels().end()}}},
          .perform = log_level};
}

std::vector<ControlCommand> make_table() {
  auto table = status_commands();
  for (const auto& row : {reload_command(), add_command(), remove_command()}) table.push_back(row);
  for (const auto& row : export_commands()) table.push_back(row);
  for (const auto& row : {disconnect_command(), drain_command(), log_level_command()})
    table.push_back(row);
  return table;
}

Awaitable<json::object> perform(const ControlTargets& targets, std::string line) {
  auto request = ControlRequest(line);
  const auto& table = control_commands();
  const auto command = std::ranges::find(table, request.command(), &ControlCommand::name);
  if (command == table.end()) {
    auto names = std::vector<std::string>{};
    for (const auto& row : table) names.push_back(row.name);
    throw ControlError(
        fmt::format("\"{}\" is not a command; there are {}", request.command(), joined(names)));
  }
  request.check(command->arguments, command->one_argument);
  auto performing = command->perform(targets, std::move(request));
  auto result = co_await std::move(performing);
  co_return result;
}

}  // namespace

const std::vector<ControlCommand>& control_commands() {
  static const auto table = make_table();
  return table;
}

Awaitable<std::string> answer_control_request(const ControlTargets& targets, std::string line) {
  auto reply = std::string{};
  try {
    auto performing = perform(targets, std::move(line));
    auto result = co_await std::move(performing);
    reply = encode_control_result(std::move(result));
  } catch (const std::exception& failure) {
    reply = encode_control_error(failure.what());
  }
  co_return reply;
}

}  // namespace server
