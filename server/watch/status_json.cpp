#include "server/watch/status_json.h"

#include <boost/json/array.hpp>
#include <utility>

#include "proto/names.h"

namespace server {
namespace {

namespace json = boost::json;

double microseconds(std::chrono::nanoseconds duration) noexcept {
  return std::chrono::duration<double, std::micro>(duration).count();
}

json::object object_of(const DurationStatus& durations) {
  const auto count = durations.count();
  auto object = json::object();
  object["mean_us"] = count == 0 ? 0 : microseconds(durations.sum) / static_cast<double>(count);
  object["p50_us"] = microseconds(durations.quantile(0.5));
  object["p99_us"] = microseconds(durations.quantile(0.99));
  object["sum_us"] = microseconds(durations.sum);
  return object;
}

json::object object_of(const CommandStatus& command) {
  auto errors = json::object();
  for (auto kind = std::size_t{0}; kind < error_kinds.size(); ++kind)
    if (command.errors[kind] > 0) errors[proto::name(error_kinds[kind])] = command.errors[kind];
  return {{"command", command.known ? proto::name(command.command) : "unknown"},
          {"requests", command.answered},
          {"dropped", command.dropped},
          {"in_flight", command.in_flight},
          {"bytes", command.bytes},
          {"errors", std::move(errors)},
          {"queue", object_of(command.queue)},
          {"device", object_of(command.device)},
          {"send", object_of(command.send)}};
}

json::object object_of(const RateLimits& limits) {
  auto object = json::object{};
  for (const auto& rate : rates) object[rate.name] = limits.*rate.value;
  object["burst_seconds"] = limits.burst_seconds;
  return object;
}

json::object object_of(const ExportStatus& target) {
  auto commands = json::array();
  for (const auto& command : target.commands)
    if (command.answered + command.dropped + command.in_flight > 0)
      commands.push_back(object_of(command));
  return {{"name", target.name},
          {"path", target.path},
          {"description", target.description},
          {"size_bytes", target.size},
          {"mode", target.mode},
          {"block_size_bytes", target.block_size},
          {"read_only", target.read_only},
          {"paused", target.paused},
          {"limits", object_of(target.limits)},
          {"client_limits", object_of(target.client_limits)},
          {"sync_failed", target.sync_error != 0},
          {"sync_failures", target.sync_failures},
          {"requests_slow", target.requests_slow},
          {"connections", target.connections},
          {"connections_total", target.connections_total},
          {"tls_connections", target.tls_connections},
          {"submit", object_of(target.submit)},
          {"commands", std::move(commands)}};
}

json::object object_of(const ConnectionStatus& connection) {
  return {{"id", connection.id},
          {"peer", connection.peer},
          {"protection", connection.protection},
          {"export", connection.export_name},
          {"worker", connection.worker},
          {"read_only", connection.read_only},
          {"age_ms", connection.age.count()},
          {"requests", connection.requests},
          {"bytes_read", connection.bytes_read},
          {"bytes_written", connection.bytes_written},
          {"in_flight", connection.requests_in_flight},
          {"memory_bytes", connection.memory},
          {"latency_sum_us", microseconds(connection.latency_sum)}};
}

json::object object_of(const WorkerStatus& worker) {
  return {{"responding", worker.responding},
          {"connections", worker.connections},
          {"connections_total", worker.connections_total},
          {"handshakes_failed", worker.handshakes_failed},
          {"buffer_waits", worker.resource_waits},
          {"memory_in_use_bytes", worker.memory_in_use},
          {"memory_limit_bytes", worker.memory_budget}};
}

}  // namespace

json::object json_of(const ServerStatus& status) {
  auto exports = json::array();
  for (const auto& target : status.exports) exports.push_back(object_of(target));
  auto workers = json::array();
  auto connections = json::array();
  for (const auto& worker : status.workers) {
    workers.push_back(object_of(worker));
    for (const auto& client : worker.clients) connections.push_back(object_of(client));
  }
  return {{"version", status.version},
          {"uptime_ms", status.uptime.count()},
          {"listening", status.listening},
          {"draining", status.draining},
          {"listen", json::array(status.listen.begin(), status.listen.end())},
          {"connections_limit", status.connections_max},
          {"memory_in_use_bytes", status.memory_in_use()},
          {"memory_limit_bytes", status.memory_budget()},
          {"exports", std::move(exports)},
          {"connections", std::move(connections)},
          {"workers", std::move(workers)}};
}

}  // namespace server
