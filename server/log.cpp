#include "server/log.h"

#include <poll.h>
#include <spdlog/sinks/ansicolor_sink.h>
#include <spdlog/sinks/syslog_sink.h>
#include <syslog.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cstdlib>
#include <memory>
#include <mutex>
#include <utility>

namespace server::log {
namespace {

constexpr std::array<std::string_view, 7> levels = {"trace", "debug",    "info", "warn",
                                                    "error", "critical", "off"};

void set_default(std::shared_ptr<spdlog::logger> logger, const std::string& level) {
  logger->flush_on(spdlog::level::trace);
  spdlog::set_default_logger(std::move(logger));
  spdlog::set_level(spdlog::level::from_str(level));
}

// Standard error. A pipe that nobody empties must not stop the server: what there is no room for is
// dropped and counted. Any thread.
class Sink final : public spdlog::sinks::ansicolor_stderr_sink_mt {
 public:
  void log(const spdlog::details::log_msg& message) override {
    const auto lock = std::lock_guard(mutex_);
    if (lost_ > 0 && has_room()) {
      const auto text = fmt::format("{} lines of this log were lost: nobody took them in time",
                                    std::exchange(lost_, 0));
      write(spdlog::details::log_msg(message.logger_name, spdlog::level::warn, text));
    }
    if (has_room()) {
      write(message);
    } else {
      ++lost_;
    }
  }

 private:
  // A pipe says so when it takes PIPE_BUF bytes, which is longer than a line.
  static bool has_room() noexcept {
    auto state = pollfd{.fd = STDERR_FILENO, .events = POLLOUT, .revents = 0};
    return ::poll(&state, 1, 0) > 0;
  }
  void write(const spdlog::details::log_msg& message) { ansicolor_stderr_sink::log(message); }

  std::mutex mutex_;
  std::uint64_t lost_ = 0;  // lines since the last one written
};

}  // namespace

void start(const std::string& level) {
  auto logger = std::make_shared<spdlog::logger>("loopnbd", std::make_shared<Sink>());
  logger->set_pattern(std::getenv("JOURNAL_STREAM") != nullptr ? "%^%l%$: %v"
                                                               : "%Y-%m-%d %H:%M:%S.%e %^%l%$: %v");
  set_default(std::move(logger), level);
}

void start_in_background(const std::string& level) {
  auto system =
      std::make_shared<spdlog::sinks::syslog_sink_mt>("loopnbd", LOG_PID, LOG_DAEMON, false);
  auto standard_error = std::make_shared<Sink>();
  // Whoever waits for the process to be ready wants to know what is wrong, and nothing else.
  standard_error->set_level(spdlog::level::warn);
  standard_error->set_pattern("loopnbd: %v");
  const auto sinks = {spdlog::sink_ptr(std::move(standard_error)), spdlog::sink_ptr(system)};
  set_default(std::make_shared<spdlog::logger>("loopnbd", sinks), level);
}

void set_level(const std::string& level) { spdlog::set_level(spdlog::level::from_str(level)); }

bool is_level(std::string_view level) { return std::ranges::find(levels, level) != levels.end(); }

std::optional<std::uint64_t> RateLimit::admit() noexcept {
  const auto now = std::chrono::duration_cast<std::chrono::seconds>(
                       std::chrono::steady_clock::now().time_since_epoch())
                       .count();
  const auto before = last_second_.exchange(now, std::memory_order_relaxed);
  if (before != 0 && now > before)
    credit_.store(std::min(burst, credit_.load(std::memory_order_relaxed) + (now - before)),
                  std::memory_order_relaxed);
  if (credit_.fetch_sub(1, std::memory_order_relaxed) > 0)
    return silenced_.exchange(0, std::memory_order_relaxed);
  credit_.store(0, std::memory_order_relaxed);
  silenced_.fetch_add(1, std::memory_order_relaxed);
  return std::nullopt;
}

}  // namespace server::log
