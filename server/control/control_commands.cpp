#include "server/control/control_commands.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <boost/json/array.hpp>
#include <boost/json/value_from.hpp>
#include <exception>
#include <utility>

#include "server/base/log.h"
#include "server/base/log_names.h"
#include "server/config/validate.h"
#include "server/control/control_command.h"
#include "server/control/export_request.h"
#include "server/server.h"

namespace server {
namespace {

namespace json = boost::json;

json::array to_json(const std::vector<std::string>& names) {
  auto array = json::array{};
  for (const auto& name : names) array.emplace_back(name);
  return array;
}

std::string joined(const std::vector<std::string>& names) {
  return names.empty() ? "none" : fmt::format("{}", fmt::join(names, ", "));
}

Departure take_departure(ControlRequest& request, Departure otherwise) {
  const auto departure = request.take_text("departure");
  if (!departure) return otherwise;
  if (*departure == "keep") return Departure::keep;
  if (*departure == "drain") return Departure::drain;
  if (*departure == "now") return Departure::now;
  throw ControlError(fmt::format("\"{}\" is not one of keep, drain, now", *departure));
}

Awaitable<json::object> reload(Server& server, ControlRequest request) {
  const auto departure = take_departure(request, Departure::keep);
  request.finish();
  const auto reloaded = co_await server.reload(departure);
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

Awaitable<json::object> add(Server& server, ControlRequest request) {
  const auto config = take_export(request);
  auto edit = LiveExports::Edit([config, &server](LiveExports::Configs configs) {
    configs.push_back(config);
    check_exports(configs, server.tls_config());
    return configs;
  });
  co_await server.exports().change(std::move(edit), Departure::keep);
  log::info("export \"{}\" added: {}", config.name, config.path);
  co_return text_result(fmt::format("export \"{}\" is offered: {}", config.name, config.path));
}

Awaitable<json::object> remove(Server& server, ControlRequest request) {
  const auto name = request.take_needed_text("export");
  const auto departure = take_departure(request, Departure::drain);
  request.finish();
  auto edit = LiveExports::Edit([name](LiveExports::Configs configs) {
    if (std::erase_if(configs, [&](const auto& entry) { return entry.name == name; }) == 0)
      throw ControlError(fmt::format("there is no export \"{}\"", name));
    return configs;
  });
  co_await server.exports().change(std::move(edit), departure);
  log::info("export \"{}\" removed", name);
  co_return text_result(fmt::format("export \"{}\" is no longer offered", name));
}

Awaitable<json::object> disconnect(Server& server, ControlRequest request) {
  const auto id = request.take_number("connection");
  const auto name = request.take_text("export");
  request.finish();
  if (id.has_value() == name.has_value())
    throw ControlError("say which: the number of a connection, or an export");
  const auto count = co_await server.exports().end_connections(id, name, Departure::now);
  if (count == 0 && id) throw ControlError(fmt::format("there is no connection {}", *id));
  auto result = text_result(fmt::format("{} disconnected", count));
  result["count"] = count;
  co_return result;
}

Awaitable<json::object> drain(Server& server, ControlRequest request) {
  const auto name = request.take_text("export");
  request.finish();
  if (!name) {
    // After the reply has been sent.
    asio::post(server.io_context(), [&server] { server.stop("drain"); });
    co_return text_result("finishing what is in flight, then ending");
  }
  const auto count =
      co_await server.exports().end_connections(std::nullopt, name, Departure::drain);
  auto result = text_result(
      fmt::format("{} connection{} told to finish", count, count == 1 ? " was" : "s were"));
  result["count"] = count;
  co_return result;
}

Awaitable<json::object> log_level(Server&, ControlRequest request) {
  const auto level = request.take_needed_text("level");
  request.finish();
  if (!log::is_level(level))
    throw ControlError(
        fmt::format("\"{}\" is not one of {}", level, fmt::join(log::levels(), ", ")));
  log::set_level(level);
  co_return text_result(fmt::format("the log level is {}", level));
}

constexpr auto commands = std::array{
    ControlCommand{"reload", reload}, ControlCommand{"add", add},
    ControlCommand{"remove", remove}, ControlCommand{"disconnect", disconnect},
    ControlCommand{"drain", drain},   ControlCommand{"log-level", log_level},
};

Awaitable<json::object> perform(Server& server, std::string line) {
  auto request = ControlRequest(line);
  for (const auto known :
       {std::span<const ControlCommand>(commands), export_commands(), status_commands()}) {
    const auto command = std::ranges::find(known, request.command(), &ControlCommand::name);
    if (command == known.end()) continue;
    auto performing = command->perform(server, std::move(request));
    auto result = co_await std::move(performing);
    co_return result;
  }
  throw ControlError(fmt::format("\"{}\" is not a command", request.command()));
}

}  // namespace

boost::json::object text_result(const std::string& text) { return {{"text", text}}; }

Awaitable<std::string> answer_control_request(Server& server, std::string line) {
  auto reply = std::string{};
  try {
    auto performing = perform(server, std::move(line));
    auto result = co_await std::move(performing);
    reply = encode_control_result(std::move(result));
  } catch (const std::exception& failure) {
    reply = encode_control_error(failure.what());
  }
  co_return reply;
}

}  // namespace server
