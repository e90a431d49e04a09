// Logging: one line an event on standard error, so that standard output stays free for --stdio. Any
// thread.
#pragma once

#include <spdlog/spdlog.h>

#include <atomic>
#include <chrono>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

namespace server::log {

// `level`: trace, debug, info, warn, error, critical or off; the caller has validated it. The
// environment variable JOURNAL_STREAM (set by systemd) drops the time stamp, which the journal adds
// itself.
void start(const std::string& level);

// Any thread. `level` as above.
void set_level(const std::string& level);
// As start(), and to the system's log as well, for a process that lets go of standard error.
void start_in_background(const std::string& level);

bool is_level(std::string_view level);

using spdlog::debug;
using spdlog::error;
using spdlog::info;
using spdlog::warn;

// Lets through a burst of events and then one a second, so that a client cannot fill the log. Any
// thread; an event more or less in a race is accepted.
class RateLimit {
 public:
  // Nothing: stay silent. Otherwise the number of events that were kept silent since the last one
  // let through.
  std::optional<std::uint64_t> admit() noexcept;

 private:
  static constexpr std::int64_t burst = 10;
  std::atomic<std::int64_t> credit_{burst};
  std::atomic<std::int64_t> last_second_{0};
  std::atomic<std::uint64_t> silenced_{0};
};

}  // namespace server::log
