#include "server/watch/exposition.h"

#include <fmt/format.h>
#include <prometheus/metric_family.h>
#include <prometheus/text_serializer.h>

#include <algorithm>
#include <cctype>
#include <memory>
#include <utility>
#include <vector>

#include "proto/names.h"

namespace server {
namespace {

using Labels = std::vector<prometheus::ClientMetric::Label>;
using prometheus::MetricType;

double seconds(std::chrono::nanoseconds duration) noexcept {
  return std::chrono::duration<double>(duration).count();
}

std::string lower(std::string_view text) {
  auto result = std::string(text);
  std::ranges::transform(result, result.begin(),
                         [](unsigned char letter) { return std::tolower(letter); });
  return result;
}

// A family under construction; adds metrics of its one type.
class Family {
 public:
  Family(std::string name, std::string help, MetricType type) {
    family_.name = std::move(name);
    family_.help = std::move(help);
    family_.type = type;
  }

  void add(Labels labels, double value) {
    auto& metric = family_.metric.emplace_back();
    metric.label = std::move(labels);
    (family_.type == MetricType::Counter ? metric.counter.value : metric.gauge.value) = value;
  }
  void add(Labels labels, std::uint64_t value) {
    add(std::move(labels), static_cast<double>(value));
  }
  void add(Labels labels, bool value) { add(std::move(labels), value ? 1.0 : 0.0); }

  void add(Labels labels, const DurationStatus& durations) {
    auto& metric = family_.metric.emplace_back();
    metric.label = std::move(labels);
    auto count = std::uint64_t{0};
    for (auto index = std::size_t{0}; index + 1 < duration_bucket_count; ++index) {
      count += durations.buckets[index];
      metric.histogram.bucket.push_back(
          {.cumulative_count = count, .upper_bound = seconds(duration_bucket_end(index))});
    }
    metric.histogram.sample_count = durations.count();
    metric.histogram.sample_sum = seconds(durations.sum);
  }

  prometheus::MetricFamily take() { return std::move(family_); }

 private:
  prometheus::MetricFamily family_;
};

class Families {
 public:
  Family& gauge(const char* name, const char* help) { return add(name, help, MetricType::Gauge); }
  Family& counter(const char* name, const char* help) {
    return add(name, help, MetricType::Counter);
  }
  Family& histogram(const char* name, const char* help) {
    return add(name, help, MetricType::Histogram);
  }

  std::string serialize() {
    auto families = std::vector<prometheus::MetricFamily>{};
    for (const auto& family : families_) {
      auto finished = family->take();
      if (!finished.metric.empty()) families.push_back(std::move(finished));
    }
    return prometheus::TextSerializer().Serialize(families);
  }

 private:
  Family& add(const char* name, const char* help, MetricType type) {
    return *families_.emplace_back(std::make_unique<Family>(name, help, type));
  }

  std::vector<std::unique_ptr<Family>> families_;
};

void add_process(Families& families, const ServerStatus& status) {
  families.gauge("loopnbd_build_info", "The version of the program, as a label.")
      .add({{"version", status.version}}, true);
  families.gauge("process_start_time_seconds", "When the process started, in seconds since 1970.")
      .add({}, static_cast<double>(status.start_time_seconds));
  families.gauge("loopnbd_listening", "1 while new connections are accepted.")
      .add({}, status.listening && !status.draining);
  families.gauge("loopnbd_connections_limit", "Connections served at once, at most.")
      .add({}, status.connections_max);
}

void add_workers(Families& families, const ServerStatus& status) {
  auto& responding = families.gauge("loopnbd_worker_responding",
                                    "1 when the worker answered within the time for it.");
  auto& connections = families.gauge("loopnbd_connections", "Connections in any phase, by worker.");
  auto& accepted =
      families.counter("loopnbd_connections_total", "Connections that the worker was given.");
  auto& failed = families.counter("loopnbd_handshakes_failed_total",
                                  "Connections that ended before they chose an export.");
  auto& turns = families.counter("loopnbd_turns_total", "Rounds of the worker's event loop.");
  auto& in_use = families.gauge("loopnbd_buffer_bytes", "Memory for data in flight that is taken.");
  auto& budget =
      families.gauge("loopnbd_buffer_limit_bytes", "Memory for data in flight that may be taken.");
  auto& waits =
      families.counter("loopnbd_buffer_waits_total",
                       "How often a connection stopped receiving for want of a buffer or a slot.");
  for (auto index = std::size_t{0}; index < status.workers.size(); ++index) {
    const auto& worker = status.workers[index];
    const auto labels = Labels{{"worker", std::to_string(index)}};
    responding.add(labels, worker.responding);
    connections.add(labels, worker.connections);
    accepted.add(labels, worker.connections_total);
    failed.add(labels, worker.handshakes_failed);
    turns.add(labels, worker.turns);
    in_use.add(labels, worker.memory_in_use);
    budget.add(labels, worker.memory_budget);
    waits.add(labels, worker.resource_waits);
  }
}

void add_exports(Families& families, const ServerStatus& status) {
  auto& info = families.gauge("loopnbd_export_info",
                              "How the export is served, as labels: path, I/O mode, block size.");
  auto& size = families.gauge("loopnbd_export_size_bytes", "The size clients see.");
  auto& connections =
      families.gauge("loopnbd_export_connections", "Connections that have chosen the export.");
  auto& total = families.counter("loopnbd_export_connections_total",
                                 "Connections that have ever chosen the export.");
  auto& tls = families.gauge("loopnbd_export_tls_connections", "Of those there are, with TLS.");
  auto& tls_total = families.counter("loopnbd_export_tls_connections_total",
                                     "Of those there have ever been, with TLS.");
  auto& sync_failed = families.gauge(
      "loopnbd_sync_failed", "1 after a sync has failed: data may be lost, FLUSH is refused.");
  auto& sync_failures = families.counter("loopnbd_sync_failures_total",
                                         "FLUSH and FUA requests refused for a failed sync.");
  auto& slow = families.gauge("loopnbd_requests_slow",
                              "Requests under way for longer than slow_request_ms.");
  auto& submit = families.histogram(
      "loopnbd_submit_seconds",
      "Time of handing one batch to the kernel (io_submit; page-cache reads in buffered mode).");
  for (const auto& target : status.exports) {
    const auto labels = Labels{{"export", target.name}};
    info.add({{"export", target.name},
              {"path", target.path},
              {"mode", target.mode},
              {"block_size", std::to_string(target.block_size)},
              {"read_only", target.read_only ? "true" : "false"}},
             true);
    size.add(labels, target.size);
    connections.add(labels, target.connections);
    total.add(labels, target.connections_total);
    tls.add(labels, target.tls_connections);
    tls_total.add(labels, target.tls_connections_total);
    sync_failed.add(labels, target.sync_error != 0);
    sync_failures.add(labels, target.sync_failures);
    slow.add(labels, target.requests_slow);
    submit.add(labels, target.submit);
  }
}

std::string label_of(const CommandStatus& command) {
  return command.known ? lower(proto::name(command.command)) : "unknown";
}

void add_commands(Families& families, const ServerStatus& status) {
  auto& requests = families.counter("loopnbd_requests_total", "Requests answered.");
  auto& dropped = families.counter("loopnbd_requests_dropped_total",
                                   "Requests that got no answer since their client had gone.");
  auto& in_flight = families.gauge("loopnbd_requests_in_flight", "Requests not answered yet.");
  auto& bytes = families.counter("loopnbd_bytes_total",
                                 "Bytes in the ranges of requests answered without an error.");
  auto& errors =
      families.counter("loopnbd_errors_total", "Requests answered with an error, by its kind.");
  auto& queue = families.histogram(
      "loopnbd_queue_seconds",
      "From a request's header to its submission: waiting for buffers, receiving its data.");
  auto& device = families.histogram("loopnbd_device_seconds",
                                    "From a request's submission to its completion.");
  auto& send = families.histogram(
      "loopnbd_send_seconds", "From a request's completion to the last byte of its reply sent.");
  for (const auto& target : status.exports) {
    for (const auto& command : target.commands) {
      const auto labels = Labels{{"export", target.name}, {"command", label_of(command)}};
      requests.add(labels, command.answered);
      dropped.add(labels, command.dropped);
      in_flight.add(labels, command.in_flight);
      bytes.add(labels, command.bytes);
      if (command.answered == 0) continue;  // what is not in use would be many lines
      for (auto kind = std::size_t{0}; kind < error_kinds.size(); ++kind) {
        auto with_kind = labels;
        with_kind.push_back({"error", std::string(proto::name(error_kinds[kind]))});
        errors.add(std::move(with_kind), command.errors[kind]);
      }
      queue.add(labels, command.queue);
      device.add(labels, command.device);
      send.add(labels, command.send);
    }
  }
}

}  // namespace

std::string exposition_of(const ServerStatus& status) {
  auto families = Families();
  add_process(families, status);
  add_workers(families, status);
  add_exports(families, status);
  add_commands(families, status);
  return families.serialize();
}

}  // namespace server
