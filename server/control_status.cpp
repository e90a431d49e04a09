// The commands that look at the server: `status` and `connections`.
#include <array>
#include <boost/json/array.hpp>
#include <utility>

#include "proto/names.h"
#include "server/control_command.h"
#include "server/server.h"

namespace server {
namespace {

namespace json = boost::json;

// A worker that does not answer by then is said not to respond.
constexpr auto status_deadline = std::chrono::milliseconds(1000);

double microseconds(std::chrono::nanoseconds duration) {
  return static_cast<double>(duration.count()) / 1000;
}

json::object to_json(const RateLimits& limits) {
  return {{"read_iops", limits.read_iops},
          {"write_iops", limits.write_iops},
          {"read_bytes", limits.read_bytes},
          {"write_bytes", limits.write_bytes},
          {"burst_seconds", limits.burst_seconds}};
}

json::object to_json(const CommandStatus& command) {
  auto errors = std::uint64_t{0};
  for (const auto count : command.errors) errors += count;
  auto latency = command.queue.sum + command.device.sum + command.send.sum;
  return {{"answered", command.answered},
          {"bytes", command.bytes},
          {"errors", errors},
          {"in_flight", command.in_flight},
          {"latency_sum_us", microseconds(latency)},
          {"device_p50_us", microseconds(command.device.quantile(0.5))},
          {"device_p99_us", microseconds(command.device.quantile(0.99))}};
}

json::object to_json(const ExportStatus& status, const LiveExports& exports) {
  auto object = json::object{{"name", status.name},
                             {"path", status.path},
                             {"description", status.description},
                             {"size", status.size},
                             {"mode", status.mode},
                             {"block_size", status.block_size},
                             {"read_only", status.read_only},
                             {"sync_error", status.sync_error},
                             {"connections", status.connections}};
  if (const auto target = exports.table()->find(status.name); target != nullptr) {
    object["paused"] = exports.is_paused(*target);
    object["limits"] = to_json(target->limiter().all());
    object["client_limits"] = to_json(target->limiter().each_client());
  }
  auto requests = json::object{};
  for (const auto& command : status.commands)
    if (command.known) {
      const auto name = proto::name(command.command);
      requests[json::string_view(name.data(), name.size())] = to_json(command);
    }
  object["requests"] = std::move(requests);
  return object;
}

json::object to_json(const ConnectionStatus& client) {
  return {{"id", client.id},
          {"peer", client.peer},
          {"export", client.export_name},
          {"worker", client.worker},
          {"read_only", client.read_only},
          {"age_seconds", static_cast<double>(client.age.count()) / 1000},
          {"requests", client.requests},
          {"bytes_read", client.bytes_read},
          {"bytes_written", client.bytes_written},
          {"in_flight", client.requests_in_flight},
          {"memory", client.memory},
          {"latency_sum_us", microseconds(client.latency_sum)}};
}

json::array connections_of(const ServerStatus& status) {
  auto connections = json::array{};
  for (const auto& worker : status.workers)
    for (const auto& client : worker.clients) connections.emplace_back(to_json(client));
  return connections;
}

Awaitable<json::object> show_connections(Server& server, ControlRequest request) {
  request.finish();
  const auto status = co_await server.status(status_deadline);
  auto result = json::object{};
  result["connections"] = connections_of(status);
  co_return result;
}

Awaitable<json::object> show_status(Server& server, ControlRequest request) {
  request.finish();
  const auto status = co_await server.status(status_deadline);
  auto result = json::object{};
  result["version"] = status.version;
  result["uptime_seconds"] = static_cast<double>(status.uptime.count()) / 1000;
  result["draining"] = status.draining;
  result["workers"] = status.workers.size();
  result["workers_respond"] = status.all_workers_respond();
  result["connections_max"] = status.connections_max;
  result["memory_in_use"] = status.memory_in_use();
  result["memory_budget"] = status.memory_budget();
  auto listen = json::array{};
  for (const auto& address : status.listen) listen.emplace_back(address);
  result["listen"] = std::move(listen);
  auto exports = json::array{};
  for (const auto& entry : status.exports) exports.emplace_back(to_json(entry, server.exports()));
  result["exports"] = std::move(exports);
  result["connections"] = connections_of(status);
  co_return result;
}

constexpr auto commands = std::array{
    ControlCommand{"status", show_status},
    ControlCommand{"connections", show_connections},
};

}  // namespace

std::span<const ControlCommand> status_commands() { return commands; }

}  // namespace server
