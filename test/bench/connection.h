// One client connection in the transmission phase: keeps `depth` requests in flight, sends what is
// due in one system call and receives many replies in another. Used by one thread.
#pragma once

#include <sys/uio.h>
#include <array>
#include <cstddef>
#include <cstdint>
#include <map>
#include <string>
#include <vector>

#include "test/bench/content.h"
#include "test/bench/histogram.h"
#include "test/bench/reply_parser.h"
#include "test/bench/session.h"
#include "test/bench/workload.h"

namespace bench {

// The results of some connections; those of several are merged.
struct Results {
  Histogram latency;                              // of successful requests
  std::array<std::uint64_t, 8> operations{};      // successful ones, by command
  std::uint64_t bytes = 0;                        // read or written
  std::map<std::uint32_t, std::uint64_t> errors;  // NBD error -> how often
  std::uint64_t mismatches = 0;                   // reads whose contents were wrong
  std::vector<std::string> failures;  // texts for people: lost connections, first mismatches

  void merge(const Results& other);
  std::uint64_t operation_count() const noexcept;
  bool clean() const noexcept { return errors.empty() && mismatches == 0 && failures.empty(); }
};

struct ConnectionOptions {
  std::uint32_t depth = 1;  // requests in flight
  bool verify = false;      // check what is read against the contents
  bool discard =
      false;  // TCP: the kernel drops the payload of reads without copying it (MSG_TRUNC)
};

class Connection final : private ReplySink {
 public:
  // `content` and `results` outlive the connection. Errors and completions are counted in
  // `results`.
  Connection(Session session, Workload workload, const ConnectionOptions& options,
             const Content& content, Results& results);
  Connection(const Connection&) = delete;
  Connection& operator=(const Connection&) = delete;
  // Takes leave of the server (NBD_CMD_DISC) when nothing is in flight.
  ~Connection();

  int socket() const noexcept { return session_.socket.get(); }
  std::uint32_t in_flight() const noexcept { return in_flight_; }
  bool has_unsent() const noexcept { return next_piece_ < pieces_.size(); }

  // Puts up to `allowance` more requests into the free slots and returns how many those were. `now`
  // in nanoseconds: the time from which they are measured.
  std::uint64_t fill(std::uint64_t allowance, std::uint64_t now);
  // A single request of another kind, to finish a run. Needs a free slot.
  void add(const WorkloadRequest& request, std::uint64_t now);
  // Sends as much as the socket takes.
  void send();
  // One recv into `buffer`; completes what has come. `wait`: sleep until something comes.
  // False: nothing was there. Throws ProtocolError or std::runtime_error when the connection is
  // lost.
  bool receive(std::vector<std::byte>& buffer, bool wait);

 private:
  struct Slot {
    WorkloadRequest request;
    std::uint64_t sent_at = 0;     // nanoseconds
    std::uint32_t bytes_seen = 0;  // of a read
    bool in_flight = false;
    bool failed = false;
  };

  std::uint32_t read_length(std::uint64_t cookie) override;
  std::uint64_t read_offset(std::uint64_t cookie) override;
  void content(std::uint64_t cookie, std::uint32_t position,
               std::span<const std::byte> bytes) override;
  void hole(std::uint64_t cookie, std::uint32_t position, std::uint32_t length) override;
  void failed(std::uint64_t cookie, std::uint32_t error) override;
  void completed(std::uint64_t cookie) override;

  Slot& slot_of(std::uint64_t cookie);
  void stage(std::uint32_t index, const WorkloadRequest& request, std::uint64_t now);
  void report_mismatch(Slot& slot, std::uint64_t offset);

  Session session_;
  Workload workload_;
  const ConnectionOptions options_;
  const Content& content_;
  Results& results_;
  ReplyParser parser_;
  std::vector<Slot> slots_;  // the cookie is the index
  std::vector<std::uint32_t> free_slots_;
  std::uint32_t in_flight_ = 0;
  std::uint64_t completed_at_ = 0;  // nanoseconds: when the replies being parsed arrived

  // The bytes to be sent. Request headers stand in `headers_`, which never grows beyond its
  // capacity while pieces point into it; payloads point into the contents.
  std::vector<std::byte> headers_;
  std::vector<iovec> pieces_;
  std::size_t next_piece_ = 0;
};

// CLOCK_MONOTONIC in nanoseconds.
std::uint64_t monotonic_time() noexcept;

}  // namespace bench
