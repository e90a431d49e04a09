#include "server/watch/status_json.h"

#include <boost/json/array.hpp>
#include <utility>

#include "proto/names.h"
#include "server/base/text.h"
#include "server/watch/metric_tables.h"

namespace server {
namespace {

namespace json = boost::json;

// Values of the kinds in MetricValue.
struct ToJson {
  json::value operator()(bool value) const { return value; }
  json::value operator()(std::uint64_t value) const { return value; }
  json::value operator()(double value) const { return value; }
  json::value operator()(std::string_view text) const {
    return json::value(json::string_view(text.data(), text.size()));
  }
  json::value operator()(const std::vector<std::string>* texts) const {
    return json::array(texts->begin(), texts->end());
  }
  json::value operator()(const DurationStatus* durations) const {
    const auto count = durations->count();
    const auto sum = microseconds_of(durations->sum);
    auto object = json::object();
    object["mean_us"] = count == 0 ? 0 : sum / static_cast<double>(count);
    object["p50_us"] = microseconds_of(durations->quantile(0.5));
    object["p99_us"] = microseconds_of(durations->quantile(0.99));
    object["sum_us"] = sum;
    return object;
  }
  json::value operator()(const RateLimits* limits) const {
    auto object = json::object();
    for (const auto& rate : rates) object[rate.name] = limits->*rate.value;
    object["burst_seconds"] = limits->burst_seconds;
    return object;
  }
  json::value operator()(const ErrorCounts* errors) const {
    auto object = json::object();
    for (auto kind = std::size_t{0}; kind < errors->size(); ++kind)
      if ((*errors)[kind] > 0) object[proto::name(error_kinds[kind])] = (*errors)[kind];
    return object;
  }
};

template <typename Status>
json::object object_of(std::span<const Metric<Status>> table, const Status& status) {
  auto object = json::object();
  for (const auto& metric : table)
    if (!metric.json_name.empty())
      object[{metric.json_name.data(), metric.json_name.size()}] =
          std::visit(ToJson{}, metric.value(status));
  return object;
}

json::object object_of(const ExportStatus& target) {
  auto commands = json::array();
  for (const auto& command : target.commands)
    if (command.answered + command.dropped + command.in_flight > 0)
      commands.push_back(object_of(command_metrics(), command));
  auto object = object_of(export_metrics(), target);
  object["commands"] = std::move(commands);
  return object;
}

}  // namespace

json::object json_of(const ServerStatus& status) {
  auto exports = json::array();
  for (const auto& target : status.exports) exports.push_back(object_of(target));
  auto workers = json::array();
  auto connections = json::array();
  for (const auto& worker : status.workers) {
    workers.push_back(object_of(worker_metrics(), worker));
    for (const auto& client : worker.clients)
      connections.push_back(object_of(connection_metrics(), client));
  }
  auto object = object_of(server_metrics(), status);
  object["exports"] = std::move(exports);
  object["connections"] = std::move(connections);
  object["workers"] = std::move(workers);
  return object;
}

}  // namespace server
