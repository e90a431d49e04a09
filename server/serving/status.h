// The status of the server as plain values: for /metrics, /status, the control socket and the
// watchdog. StatusGatherer fills them in.
#pragma once

#include <array>
#include <chrono>
#include <cstddef>
#include <cstdint>
#include <string>
#include <vector>

#include "proto/constants.h"
#include "server/base/metrics.h"
#include "server/policy/rate_limiter.h"

namespace server {

struct DurationStatus {
  std::array<std::uint64_t, duration_bucket_count> buckets{};  // as in metrics.h
  std::chrono::nanoseconds sum{0};

  std::uint64_t count() const noexcept;
  // The end of the bucket that holds the given part (0 to 1) of all; zero when there is nothing.
  std::chrono::nanoseconds quantile(double part) const noexcept;
  void add(const DurationCounter& counter) noexcept;
};

// Sums of what the workers count, see metrics.h.
using CommandSums = CommandCounts<std::uint64_t, DurationStatus>;
using ExportSums = ExportCounts<std::uint64_t, DurationStatus>;
using WorkerSums = WorkerCounts<std::uint64_t>;

// Adds what one worker has counted. Any thread.
void add_up(CommandSums& sums, const CommandMetrics& worker) noexcept;
void add_up(ExportSums& sums, const ExportMetrics& worker) noexcept;
void add_up(WorkerSums& sums, const WorkerMetrics& worker) noexcept;

struct CommandStatus : CommandSums {
  proto::Command command = proto::Command::read;
  bool known = true;  // false: what the specification has no name for, all together
  std::uint64_t answered = 0;
  std::uint64_t dropped = 0;  // with their connection
  std::uint64_t in_flight = 0;
};

struct ExportStatus : ExportSums {
  std::string name;
  std::string path;
  std::string description;
  std::uint64_t size = 0;        // bytes
  std::string mode;              // "direct", "buffered" or "memory"
  std::uint32_t block_size = 1;  // bytes: the alignment of its I/O
  bool read_only = false;
  bool paused = false;
  bool file_replaced = false;  // its path leads to another file
  RateLimits limits;           // of all clients
  RateLimits client_limits;    // of each
  int sync_error = 0;          // -errno of the sync that failed, or 0
  std::uint64_t connections = 0;
  std::uint64_t tls_connections = 0;    // of these
  std::vector<CommandStatus> commands;  // one for each; the unknown ones last
};

struct ConnectionStatus {
  std::uint64_t id = 0;  // unique while the process lives
  std::string peer;
  std::string protection;  // "TLSv1.3, TLS_AES_128_GCM_SHA256"; empty: none
  std::string export_name;
  std::size_t worker = 0;
  bool read_only = false;
  std::chrono::milliseconds age{0};
  std::uint64_t requests = 0;  // answered
  std::uint64_t bytes_read = 0;
  std::uint64_t bytes_written = 0;
  std::uint64_t requests_in_flight = 0;
  std::uint64_t memory = 0;                 // bytes of buffers it holds
  std::chrono::nanoseconds latency_sum{0};  // from header to the end of the reply, of `requests`
};

struct WorkerStatus : WorkerSums {
  bool responding = false;          // false: what follows below the line is not known
  std::uint64_t connections = 0;    // in any phase
  std::uint64_t memory_budget = 0;  // bytes
  // From its thread.
  std::vector<ConnectionStatus> clients;  // those that have chosen an export
};

struct ServerStatus {
  std::string version;
  std::chrono::milliseconds uptime{0};
  std::int64_t start_time_seconds = 0;  // since the epoch
  bool listening = false;
  bool draining = false;
  std::vector<std::string> listen;  // addresses
  std::uint64_t connections_max = 0;
  std::vector<ExportStatus> exports;
  std::vector<WorkerStatus> workers;

  bool all_workers_respond() const noexcept;
  std::uint64_t connection_count() const noexcept;
  std::uint64_t memory_in_use() const noexcept;  // bytes
  std::uint64_t memory_budget() const noexcept;  // bytes
};

}  // namespace server
