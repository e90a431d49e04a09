// Drives some connections from one thread until a time or a number of requests is over and
// everything is answered.
#pragma once

#include <cstdint>
#include <memory>
#include <string_view>
#include <vector>

#include "engine/file_descriptor.h"
#include "test/bench/connection.h"

namespace bench {

struct LoadOptions {
  double seconds = 0;         // 0: no limit; at least one of the two limits is set
  std::uint64_t count = 0;    // requests; 0: no limit
  double rate = 0;            // requests per second at most; 0: no limit
  bool flush_at_end = false;  // one FLUSH on the first connection belongs to the measured time
};

class Load {
 public:
  explicit Load(const LoadOptions& options);

  // Before run(). The connection counts into results().
  void add(Session session, Workload workload, const ConnectionOptions& options,
           const Content& content);

  void run();

  const Results& results() const noexcept { return results_; }
  double seconds() const noexcept { return seconds_; }  // of run(), up to the last reply

 private:
  struct Member {
    std::unique_ptr<Connection> connection;
    bool watched_for_output = false;
    bool lost = false;
  };

  bool finished(std::uint64_t now) const noexcept;
  bool anything_in_flight() const noexcept;
  std::uint64_t allowance(std::uint64_t now) const noexcept;
  void top_up(Member& member);
  void turn();
  void wait_and_serve();
  void serve(Member& member, std::uint32_t events);
  void watch(Member& member);
  void lose(Member& member, std::string_view reason);
  void flush_once();

  const LoadOptions options_;
  Results results_;
  std::vector<Member> members_;
  engine::FileDescriptor epoll_;
  std::vector<std::byte> receive_buffer_;
  std::uint64_t started_at_ = 0;  // nanoseconds
  std::uint64_t issued_ = 0;      // requests
  double seconds_ = 0;
};

}  // namespace bench
