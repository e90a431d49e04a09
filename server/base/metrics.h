// The counters of a worker that serves. Each worker counts alone, so that a plain load and store
// loses nothing; any thread may read, and sums up what the workers have. Times are steady_clock's,
// read once for a batch of requests.
#pragma once

#include <algorithm>
#include <array>
#include <atomic>
#include <bit>
#include <chrono>
#include <cstddef>
#include <cstdint>
#include <tuple>

#include "proto/constants.h"

namespace server {

using Clock = std::chrono::steady_clock;

// Written by one thread, read by any.
class Counter {
 public:
  void add(std::uint64_t count) noexcept { set(value() + count); }
  void set(std::uint64_t value) noexcept { value_.store(value, std::memory_order_relaxed); }
  std::uint64_t value() const noexcept { return value_.load(std::memory_order_relaxed); }

 private:
  std::atomic<std::uint64_t> value_{0};
};

// Durations in buckets that double: bucket n ends below 2^n * 1024 ns, the last one has no end.
inline constexpr std::size_t duration_bucket_count = 25;

constexpr std::size_t duration_bucket(std::chrono::nanoseconds duration) noexcept {
  const auto units = static_cast<std::uint64_t>(std::max<std::int64_t>(duration.count(), 0)) >> 10;
  return std::min<std::size_t>(static_cast<std::size_t>(std::bit_width(units)),
                               duration_bucket_count - 1);
}

// Where bucket `index` ends; not for the last one.
constexpr std::chrono::nanoseconds duration_bucket_end(std::size_t index) noexcept {
  return std::chrono::nanoseconds(std::int64_t{1024} << index);
}

// Written by one thread, read by any.
class DurationCounter {
 public:
  void add(std::chrono::nanoseconds duration) noexcept {
    buckets_[duration_bucket(duration)].add(1);
    sum_ns_.add(static_cast<std::uint64_t>(duration.count()));
  }
  const std::array<Counter, duration_bucket_count>& buckets() const noexcept { return buckets_; }
  std::chrono::nanoseconds sum() const noexcept {
    return std::chrono::nanoseconds(static_cast<std::int64_t>(sum_ns_.value()));
  }

 private:
  std::array<Counter, duration_bucket_count> buckets_;
  Counter sum_ns_;
};

// One more than the commands of the specification: the last place is for those it does not know.
inline constexpr std::size_t command_count =
    static_cast<std::size_t>(proto::Command::block_status) + 2;

constexpr std::size_t command_index(proto::Command command) noexcept {
  return std::min<std::size_t>(static_cast<std::size_t>(command), command_count - 1);
}

// The errors that a reply can carry.
inline constexpr std::array error_kinds = {proto::Error::perm,          proto::Error::io,
                                           proto::Error::no_memory,     proto::Error::invalid,
                                           proto::Error::no_space,      proto::Error::overflow,
                                           proto::Error::not_supported, proto::Error::shutdown};

// The counters come as templates: with Count = Counter and Durations = DurationCounter a worker's
// own, with std::uint64_t and DurationStatus (server/serving/status.h) the sum over the workers,
// which add_up() makes. `all` has every member, in the order that they are read in: what ends in
// between must not be counted as ended and not begun.

// The requests of one command on one export.
template <typename Count, typename Durations>
struct CommandCounts {
  Count ended{};  // of those begun: answered, or dropped with their connection
  Count begun{};  // their headers have arrived
  Count bytes{};  // of the ranges of those answered without an error
  // Of those answered, so that each of the three counts them. From the header's arrival to the last
  // operation's submission (waiting for buffers, receiving a payload); from there to its
  // completion; from there until the last byte of the reply has been sent.
  Durations queue{};
  Durations device{};
  Durations send{};
  std::array<Count, error_kinds.size()> errors{};  // in the order of error_kinds

  static constexpr auto all = std::tuple(
      &CommandCounts::ended, &CommandCounts::bytes, &CommandCounts::queue, &CommandCounts::device,
      &CommandCounts::send, &CommandCounts::errors, &CommandCounts::begun);
};

// The work for one export.
template <typename Count, typename Durations>
struct ExportCounts {
  Count connections_ended{};
  Count connections_begun{};
  Count tls_connections_ended{};
  Count tls_connections_begun{};
  Count sync_failures{};  // requests refused since data may have been lost
  Count requests_slow{};  // under way for longer than Bounds::slow_request, when last looked
  Durations submit{};     // flush() of the queue: io_submit, or reads that the page cache serves

  static constexpr auto all =
      std::tuple(&ExportCounts::connections_ended, &ExportCounts::connections_begun,
                 &ExportCounts::tls_connections_ended, &ExportCounts::tls_connections_begun,
                 &ExportCounts::sync_failures, &ExportCounts::requests_slow, &ExportCounts::submit);
};

// The state of a worker, of all exports together.
template <typename Count>
struct WorkerCounts {
  Count turns{};
  Count connections_served{};  // accepted, whatever became of them
  Count handshakes_failed{};
  Count resource_waits{};  // a connection stopped receiving for want of a slot or a buffer
  Count memory_in_use{};   // bytes of buffers at the end of the last turn

  static constexpr auto all = std::tuple(
      &WorkerCounts::turns, &WorkerCounts::connections_served, &WorkerCounts::handshakes_failed,
      &WorkerCounts::resource_waits, &WorkerCounts::memory_in_use);
};

struct CommandMetrics : CommandCounts<Counter, DurationCounter> {
  void add_error(proto::Error error) noexcept {
    const auto place = std::ranges::find(error_kinds, error) - error_kinds.begin();
    if (static_cast<std::size_t>(place) < errors.size())
      errors[static_cast<std::size_t>(place)].add(1);
  }
};

// Of one worker for one export.
struct alignas(64) ExportMetrics : ExportCounts<Counter, DurationCounter> {
  std::array<CommandMetrics, command_count> commands;

  CommandMetrics& of(proto::Command command) noexcept { return commands[command_index(command)]; }
};

// Of one worker.
struct alignas(64) WorkerMetrics : WorkerCounts<Counter> {};

}  // namespace server
