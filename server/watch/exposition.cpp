#include "server/watch/exposition.h"

#include <fmt/format.h>
#include <prometheus/metric_family.h>
#include <prometheus/text_serializer.h>

#include <algorithm>
#include <cctype>
#include <utility>
#include <vector>

#include "proto/names.h"
#include "server/base/text.h"
#include "server/watch/metric_tables.h"

namespace server {
namespace {

using prometheus::MetricFamily;
using prometheus::MetricType;
using Labels = std::vector<prometheus::ClientMetric::Label>;

std::string lower(std::string_view text) {
  auto result = std::string(text);
  std::ranges::transform(result, result.begin(),
                         [](unsigned char letter) { return std::tolower(letter); });
  return result;
}

// A thing that the rows of a table are about, with the labels that tell it from others.
template <typename Status>
struct Subject {
  Labels labels;
  const Status& status;
};

MetricFamily family(std::string_view name, std::string_view help, MetricType type) {
  auto result = MetricFamily{};
  result.name = name;
  result.help = help;
  result.type = type;
  return result;
}

prometheus::ClientMetric& add_metric(MetricFamily& family, Labels labels) {
  auto& metric = family.metric.emplace_back();
  metric.label = std::move(labels);
  return metric;
}

// Adds one value of the kinds in MetricValue to a family.
class Adding {
 public:
  Adding(MetricFamily& family, const Labels& labels) : family_(family), labels_(labels) {}

  void operator()(double value) const {
    auto& metric = add_metric(family_, labels_);
    (family_.type == MetricType::Counter ? metric.counter.value : metric.gauge.value) = value;
  }
  void operator()(bool value) const { (*this)(value ? 1.0 : 0.0); }
  void operator()(std::uint64_t value) const { (*this)(static_cast<double>(value)); }
  void operator()(const DurationStatus* durations) const {
    family_.type = MetricType::Histogram;
    auto& histogram = add_metric(family_, labels_).histogram;
    auto count = std::uint64_t{0};
    for (auto index = std::size_t{0}; index + 1 < duration_bucket_count; ++index) {
      count += durations->buckets[index];
      histogram.bucket.push_back(
          {.cumulative_count = count, .upper_bound = seconds_of(duration_bucket_end(index))});
    }
    histogram.sample_count = durations->count();
    histogram.sample_sum = seconds_of(durations->sum);
  }
  void operator()(const ErrorCounts* errors) const {
    for (auto kind = std::size_t{0}; kind < errors->size(); ++kind) {
      auto with_kind = labels_;
      with_kind.push_back({"error", std::string(proto::name(error_kinds[kind]))});
      Adding(family_, with_kind)((*errors)[kind]);
    }
  }
  // Texts and the like are no numbers: no row with a name in Prometheus has one.
  void operator()(const auto&) const {}

 private:
  MetricFamily& family_;
  const Labels& labels_;
};

// A label's value for those of MetricValue that can be one.
struct ToLabel {
  std::string operator()(bool value) const { return value ? "true" : "false"; }
  std::string operator()(std::uint64_t value) const { return std::to_string(value); }
  std::string operator()(std::string_view text) const { return std::string(text); }
  std::string operator()(const auto&) const { return {}; }
};

// Many lines, and of no use while the command is not.
bool is_left_out(const MetricValue& value, const CommandStatus& status) {
  return status.answered == 0 && (std::holds_alternative<const DurationStatus*>(value) ||
                                  std::holds_alternative<const ErrorCounts*>(value));
}
bool is_left_out(const MetricValue&, const auto&) { return false; }

template <typename Status>
void add_families(std::vector<MetricFamily>& families, std::span<const Metric<Status>> table,
                  const std::vector<Subject<Status>>& subjects) {
  for (const auto& row : table) {
    if (row.prometheus_name.empty() || row.kind == MetricKind::label) continue;
    auto added = family(row.prometheus_name, row.help,
                        row.kind == MetricKind::counter ? MetricType::Counter : MetricType::Gauge);
    for (const auto& subject : subjects) {
      const auto value = row.value(subject.status);
      if (!is_left_out(value, subject.status)) std::visit(Adding(added, subject.labels), value);
    }
    if (!added.metric.empty()) families.push_back(std::move(added));
  }
}

// The labels of a table, as the labels of a family whose value is 1.
template <typename Status>
void add_info(std::vector<MetricFamily>& families, std::string_view name, std::string_view help,
              std::span<const Metric<Status>> table, const std::vector<Subject<Status>>& subjects) {
  auto info = family(name, help, MetricType::Gauge);
  for (const auto& subject : subjects) {
    auto labels = subject.labels;
    for (const auto& row : table)
      if (row.kind == MetricKind::label)
        labels.push_back(
            {std::string(row.prometheus_name), std::visit(ToLabel{}, row.value(subject.status))});
    add_metric(info, std::move(labels)).gauge.value = 1;
  }
  if (!info.metric.empty()) families.push_back(std::move(info));
}

}  // namespace

std::string exposition_of(const ServerStatus& status) {
  const auto process = std::vector<Subject<ServerStatus>>{{{}, status}};
  auto workers = std::vector<Subject<WorkerStatus>>{};
  for (const auto& worker : status.workers)
    workers.push_back({{{"worker", std::to_string(workers.size())}}, worker});
  auto exports = std::vector<Subject<ExportStatus>>{};
  auto commands = std::vector<Subject<CommandStatus>>{};
  for (const auto& target : status.exports) {
    exports.push_back({{{"export", target.name}}, target});
    for (const auto& command : target.commands) {
      const auto name = command.known ? lower(proto::name(command.command)) : "unknown";
      commands.push_back({{{"export", target.name}, {"command", name}}, command});
    }
  }
  auto families = std::vector<MetricFamily>{};
  add_info(families, "loopnbd_build_info", "The version of the program, as a label.",
           server_metrics(), process);
  add_families(families, server_metrics(), process);
  add_families(families, worker_metrics(), workers);
  add_info(families, "loopnbd_export_info",
           "How the export is served, as labels: path, I/O mode, block size.", export_metrics(),
           exports);
  add_families(families, export_metrics(), exports);
  add_families(families, command_metrics(), commands);
  return prometheus::TextSerializer().Serialize(families);
}

}  // namespace server
