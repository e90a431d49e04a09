// The table of all that the server says of itself: for each fact its name in the JSON of the
// status, its name in Prometheus's exposition, its kind, its help and where its value is. The JSON
// and the exposition are made of these rows, so that neither can lack one or call it otherwise.
#pragma once

#include <array>
#include <cstdint>
#include <span>
#include <string>
#include <string_view>
#include <variant>
#include <vector>

#include "server/serving/status.h"

namespace server {

enum class MetricKind {
  gauge,
  counter,
  label,  // of the family <prefix>_info, whose value is always 1
};

using ErrorCounts = std::array<std::uint64_t, error_kinds.size()>;  // in the order of error_kinds

// Views of the status: valid as long as it.
using MetricValue =
    std::variant<bool, std::uint64_t, double, std::string_view, const RateLimits*,
                 const std::vector<std::string>*, const DurationStatus*, const ErrorCounts*>;

template <typename Status>
struct Metric {
  std::string_view json_name;        // empty: not in the JSON
  std::string_view prometheus_name;  // empty: not in the exposition
  MetricKind kind;
  std::string_view help;
  MetricValue (*value)(const Status& status);
};

// Any thread.
std::span<const Metric<ServerStatus>> server_metrics();
std::span<const Metric<WorkerStatus>> worker_metrics();
std::span<const Metric<ExportStatus>> export_metrics();
std::span<const Metric<CommandStatus>> command_metrics();
std::span<const Metric<ConnectionStatus>> connection_metrics();

}  // namespace server
