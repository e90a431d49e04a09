#include "server/watch/metric_tables.h"

#include <catch2/catch.hpp>
#include <set>
#include <string>

using server::MetricKind;

namespace {

// Checks what holds for every table; `names` are those of all tables in Prometheus.
template <typename Status>
void check_table(std::span<const server::Metric<Status>> table, std::set<std::string>& names) {
  const auto status = Status{};
  auto json_names = std::set<std::string_view>{};
  for (const auto& metric : table) {
    CAPTURE(metric.json_name, metric.prometheus_name);
    CHECK(json_names.insert(metric.json_name).second);
    CHECK(metric.help.ends_with('.'));
    const auto name = std::string(metric.prometheus_name);
    const auto value = metric.value(status);
    const auto is_time = std::holds_alternative<const server::DurationStatus*>(value);
    const auto is_text = std::holds_alternative<std::string_view>(value);
    if (name.empty() || metric.kind == MetricKind::label) {
      CHECK((!name.empty() || metric.kind != MetricKind::label));
      continue;
    }
    CHECK(names.insert(name).second);
    CHECK_FALSE(is_text);
    CHECK(name.ends_with("_total") == (metric.kind == MetricKind::counter && !is_time));
    if (is_time) CHECK(name.ends_with("_seconds"));
  }
}

}  // namespace

TEST_CASE("no two metrics have the same name, and each name says its kind") {
  auto names = std::set<std::string>{};
  check_table(server::server_metrics(), names);
  check_table(server::worker_metrics(), names);
  check_table(server::export_metrics(), names);
  check_table(server::command_metrics(), names);
  check_table(server::connection_metrics(), names);
  CHECK(names.size() > 20);
}

TEST_CASE("every metric is in the JSON") {
  for (const auto& metric : server::server_metrics()) CHECK_FALSE(metric.json_name.empty());
  for (const auto& metric : server::worker_metrics()) CHECK_FALSE(metric.json_name.empty());
  for (const auto& metric : server::export_metrics()) CHECK_FALSE(metric.json_name.empty());
  for (const auto& metric : server::command_metrics()) CHECK_FALSE(metric.json_name.empty());
}
