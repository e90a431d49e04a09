#include "server/watch/metric_tables.h"

#include <concepts>

#include "proto/names.h"
#include "server/base/text.h"

namespace server {
namespace {

using enum MetricKind;

MetricValue value_of(bool value) { return value; }
MetricValue value_of(std::integral auto value) { return static_cast<std::uint64_t>(value); }
MetricValue value_of(std::chrono::milliseconds duration) {
  return static_cast<std::uint64_t>(duration.count());
}
MetricValue value_of(const std::string& text) { return std::string_view(text); }
MetricValue value_of(const RateLimits& limits) { return &limits; }
MetricValue value_of(const std::vector<std::string>& texts) { return &texts; }
MetricValue value_of(const DurationStatus& durations) { return &durations; }
MetricValue value_of(const ErrorCounts& errors) { return &errors; }

// The value of a member of the status.
template <auto member, typename Status>
MetricValue of(const Status& status) {
  return value_of(status.*member);
}

// The value of a member function.
template <auto function, typename Status>
MetricValue from(const Status& status) {
  return (status.*function)();
}

constexpr auto of_server = std::to_array<Metric<ServerStatus>>({
    {"version", "version", label, "The version of the program.", of<&ServerStatus::version>},
    {"uptime_ms", "", gauge, "How long it has been serving.", of<&ServerStatus::uptime>},
    {"start_time_seconds", "process_start_time_seconds", gauge,
     "When the process started, in seconds since 1970.", of<&ServerStatus::start_time_seconds>},
    {"listening", "loopnbd_listening", gauge, "1 while new connections are accepted.",
     [](const ServerStatus& status) -> MetricValue {
       return status.listening && !status.draining;
     }},
    {"draining", "", gauge, "Whether it finishes what is in flight, to end.",
     of<&ServerStatus::draining>},
    {"listen", "", gauge, "The addresses it listens on.", of<&ServerStatus::listen>},
    {"connections_limit", "loopnbd_connections_limit", gauge,
     "Connections served at once, at most.", of<&ServerStatus::connections_max>},
    {"memory_in_use_bytes", "", gauge, "Memory for data in flight that is taken, of all workers.",
     from<&ServerStatus::memory_in_use>},
    {"memory_limit_bytes", "", gauge,
     "Memory for data in flight that may be taken, of all workers.",
     from<&ServerStatus::memory_budget>},
});

constexpr auto of_worker = std::to_array<Metric<WorkerStatus>>({
    {"responding", "loopnbd_worker_responding", gauge,
     "1 when the worker answered within the time for it.", of<&WorkerStatus::responding>},
    {"connections", "loopnbd_connections", gauge, "Connections in any phase, by worker.",
     of<&WorkerStatus::connections>},
    {"connections_total", "loopnbd_connections_total", counter,
     "Connections that the worker was given.", of<&WorkerStatus::connections_served>},
    {"handshakes_failed", "loopnbd_handshakes_failed_total", counter,
     "Connections that ended before they chose an export.", of<&WorkerStatus::handshakes_failed>},
    {"turns", "loopnbd_turns_total", counter, "Rounds of the worker's event loop.",
     of<&WorkerStatus::turns>},
    {"memory_in_use_bytes", "loopnbd_buffer_bytes", gauge,
     "Memory for data in flight that is taken.", of<&WorkerStatus::memory_in_use>},
    {"memory_limit_bytes", "loopnbd_buffer_limit_bytes", gauge,
     "Memory for data in flight that may be taken.", of<&WorkerStatus::memory_budget>},
    {"buffer_waits", "loopnbd_buffer_waits_total", counter,
     "How often a connection stopped receiving for want of a buffer or a slot.",
     of<&WorkerStatus::resource_waits>},
});

constexpr auto of_export = std::to_array<Metric<ExportStatus>>({
    {"name", "", gauge, "What clients ask for.", of<&ExportStatus::name>},
    {"path", "path", label, "The file or device under it.", of<&ExportStatus::path>},
    {"description", "", gauge, "What clients are told about it.", of<&ExportStatus::description>},
    {"mode", "mode", label, "Its I/O: direct or buffered.", of<&ExportStatus::mode>},
    {"block_size_bytes", "block_size", label, "The alignment of its I/O.",
     of<&ExportStatus::block_size>},
    {"read_only", "read_only", label, "Whether writes are refused.", of<&ExportStatus::read_only>},
    {"paused", "", gauge, "Whether requests wait for the end of a pause.",
     of<&ExportStatus::paused>},
    {"file_replaced", "loopnbd_file_replaced", gauge,
     "1 when the path leads to another file than the one that is served.",
     of<&ExportStatus::file_replaced>},
    {"limits", "", gauge, "The limits of all its clients together.", of<&ExportStatus::limits>},
    {"client_limits", "", gauge, "The limits of each client.", of<&ExportStatus::client_limits>},
    {"size_bytes", "loopnbd_export_size_bytes", gauge, "The size clients see.",
     of<&ExportStatus::size>},
    {"connections", "loopnbd_export_connections", gauge, "Connections that have chosen the export.",
     of<&ExportStatus::connections>},
    {"connections_total", "loopnbd_export_connections_total", counter,
     "Connections that have ever chosen the export.", of<&ExportStatus::connections_begun>},
    {"tls_connections", "loopnbd_export_tls_connections", gauge, "Of those there are, with TLS.",
     of<&ExportStatus::tls_connections>},
    {"tls_connections_total", "loopnbd_export_tls_connections_total", counter,
     "Of those there have ever been, with TLS.", of<&ExportStatus::tls_connections_begun>},
    {"sync_failed", "loopnbd_sync_failed", gauge,
     "1 after a sync has failed, until it is cleared: data may be lost, FLUSH is refused.",
     [](const ExportStatus& status) -> MetricValue { return status.sync_error != 0; }},
    {"sync_failures", "loopnbd_sync_failures_total", counter,
     "FLUSH and FUA requests refused for a failed sync.", of<&ExportStatus::sync_failures>},
    {"requests_slow", "loopnbd_requests_slow", gauge,
     "Requests under way for longer than slow_request_ms.", of<&ExportStatus::requests_slow>},
    {"submit", "loopnbd_submit_seconds", counter,
     "Time of handing one batch to the kernel (io_submit; page-cache reads in buffered mode).",
     of<&ExportStatus::submit>},
});

constexpr auto of_command = std::to_array<Metric<CommandStatus>>({
    {"command", "", gauge, "The specification's name of it, or \"unknown\".",
     [](const CommandStatus& status) -> MetricValue {
       return status.known ? proto::name(status.command) : "unknown";
     }},
    {"requests", "loopnbd_requests_total", counter, "Requests answered.",
     of<&CommandStatus::answered>},
    {"dropped", "loopnbd_requests_dropped_total", counter,
     "Requests that got no answer since their client had gone.", of<&CommandStatus::dropped>},
    {"in_flight", "loopnbd_requests_in_flight", gauge, "Requests not answered yet.",
     of<&CommandStatus::in_flight>},
    {"bytes", "loopnbd_bytes_total", counter,
     "Bytes in the ranges of requests answered without an error.", of<&CommandStatus::bytes>},
    {"errors", "loopnbd_errors_total", counter, "Requests answered with an error, by its kind.",
     of<&CommandStatus::errors>},
    {"queue", "loopnbd_queue_seconds", counter,
     "From a request's header to its submission: waiting for buffers, receiving its data.",
     of<&CommandStatus::queue>},
    {"device", "loopnbd_device_seconds", counter, "From a request's submission to its completion.",
     of<&CommandStatus::device>},
    {"send", "loopnbd_send_seconds", counter,
     "From a request's completion to the last byte of its reply sent.", of<&CommandStatus::send>},
});

constexpr auto of_connection = std::to_array<Metric<ConnectionStatus>>({
    {"id", "", gauge, "Its number, unique while the process lives.", of<&ConnectionStatus::id>},
    {"peer", "", gauge, "The client, for people.", of<&ConnectionStatus::peer>},
    {"protection", "", gauge, "Version and cipher of TLS; empty: none.",
     of<&ConnectionStatus::protection>},
    {"export", "", gauge, "The export it has chosen.", of<&ConnectionStatus::export_name>},
    {"worker", "", gauge, "The worker that serves it.", of<&ConnectionStatus::worker>},
    {"read_only", "", gauge, "Whether its writes are refused.", of<&ConnectionStatus::read_only>},
    {"age_ms", "", gauge, "How long it has been there.", of<&ConnectionStatus::age>},
    {"requests", "", counter, "Requests answered.", of<&ConnectionStatus::requests>},
    {"bytes_read", "", counter, "Bytes of READs answered without an error.",
     of<&ConnectionStatus::bytes_read>},
    {"bytes_written", "", counter, "Bytes of WRITEs answered without an error.",
     of<&ConnectionStatus::bytes_written>},
    {"in_flight", "", gauge, "Requests not answered yet.",
     of<&ConnectionStatus::requests_in_flight>},
    {"memory_bytes", "", gauge, "Memory for data in flight that it has taken.",
     of<&ConnectionStatus::memory>},
    {"latency_sum_us", "", counter,
     "From the header to the last byte of the reply, of all requests answered.",
     [](const ConnectionStatus& status) -> MetricValue {
       return microseconds_of(status.latency_sum);
     }},
});

}  // namespace

std::span<const Metric<ServerStatus>> server_metrics() { return of_server; }
std::span<const Metric<WorkerStatus>> worker_metrics() { return of_worker; }
std::span<const Metric<ExportStatus>> export_metrics() { return of_export; }
std::span<const Metric<CommandStatus>> command_metrics() { return of_command; }
std::span<const Metric<ConnectionStatus>> connection_metrics() { return of_connection; }

}  // namespace server
