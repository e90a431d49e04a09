#include "test/bench/report.h"

#include <array>
#include <iterator>
#include <string_view>

#include <fmt/format.h>

namespace bench {
namespace {

// In the order of proto::Command.
constexpr std::array<std::string_view, 8> command_names = {
    "read", "write", "disconnect", "flush", "trim", "cache", "zero", "block_status"};

double microseconds(std::uint64_t nanoseconds) { return static_cast<double>(nanoseconds) / 1000; }

double per_second(std::uint64_t count, double seconds) {
  return seconds > 0 ? static_cast<double>(count) / seconds : 0;
}

std::uint64_t error_count(const Results& results) {
  std::uint64_t count = 0;
  for (const auto& [error, times] : results.errors) count += times;
  return count;
}

// The failures are texts of ours and the system's; only these characters could break a JSON string.
std::string escaped(std::string_view text) {
  std::string quoted;
  for (const char character : text) {
    if (character == '"' || character == '\\') quoted.push_back('\\');
    quoted.push_back(static_cast<unsigned char>(character) < 0x20 ? ' ' : character);
  }
  return quoted;
}

}  // namespace

std::string format_text(const Report& report) {
  const Results& results = report.results;
  const Histogram& latency = results.latency;
  std::string text;
  auto out = std::back_inserter(text);
  fmt::format_to(out, "{} requests in {:.2f} s: {:.0f} a second, {:.1f} MiB/s\n",
                 results.operation_count(), report.seconds,
                 per_second(results.operation_count(), report.seconds),
                 per_second(results.bytes, report.seconds) / (1U << 20));
  fmt::format_to(out,
                 "latency in us: mean {:.1f}, p50 {:.1f}, p99 {:.1f}, p99.9 {:.1f}, max {:.1f}\n",
                 latency.mean() / 1000, microseconds(latency.percentile(0.5)),
                 microseconds(latency.percentile(0.99)), microseconds(latency.percentile(0.999)),
                 microseconds(latency.max()));
  fmt::format_to(out, "own CPU time: {:.2f} s\n", report.client_cpu_seconds);
  for (const auto& [error, count] : results.errors)
    fmt::format_to(out, "error {}: {} times\n", error, count);
  if (results.mismatches > 0)
    fmt::format_to(out, "wrong contents in {} reads\n", results.mismatches);
  for (const auto& failure : results.failures) fmt::format_to(out, "{}\n", failure);
  return text;
}

std::string format_json(const Report& report) {
  const Results& results = report.results;
  const Histogram& latency = results.latency;
  std::string json;
  auto out = std::back_inserter(json);
  fmt::format_to(out,
                 R"({{"operations":{},"iops":{:.1f},"bytes_per_second":{:.0f},"seconds":{:.6f},)",
                 results.operation_count(), per_second(results.operation_count(), report.seconds),
                 per_second(results.bytes, report.seconds), report.seconds);
  fmt::format_to(
      out,
      R"("latency_us":{{"mean":{:.2f},"p50":{:.2f},"p99":{:.2f},"p99_9":{:.2f},"max":{:.2f}}},)",
      latency.mean() / 1000, microseconds(latency.percentile(0.5)),
      microseconds(latency.percentile(0.99)), microseconds(latency.percentile(0.999)),
      microseconds(latency.max()));
  fmt::format_to(out, R"("client_cpu_seconds":{:.6f},"errors":{},"mismatches":{},"commands":{{)",
                 report.client_cpu_seconds, error_count(results), results.mismatches);
  std::string_view comma;
  for (std::size_t i = 0; i < command_names.size(); ++i) {
    if (results.operations[i] == 0) continue;
    fmt::format_to(out, R"({}"{}":{})", comma, command_names[i], results.operations[i]);
    comma = ",";
  }
  json += R"(},"failures":[)";
  comma = "";
  for (const auto& failure : results.failures) {
    fmt::format_to(out, R"({}"{}")", comma, escaped(failure));
    comma = ",";
  }
  json += "]}\n";
  return json;
}

}  // namespace bench
