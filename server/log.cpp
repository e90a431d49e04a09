#include "server/log.h"

#include <spdlog/sinks/stdout_color_sinks.h>
#include <spdlog/sinks/syslog_sink.h>
#include <syslog.h>

#include <algorithm>
#include <array>
#include <cstdlib>

namespace server::log {
namespace {

constexpr std::array<std::string_view, 7> levels = {"trace", "debug",    "info", "warn",
                                                    "error", "critical", "off"};

void set_default(std::shared_ptr<spdlog::logger> logger, const std::string& level) {
  logger->flush_on(spdlog::level::trace);
  spdlog::set_default_logger(std::move(logger));
  spdlog::set_level(spdlog::level::from_str(level));
}

}  // namespace

void start(const std::string& level) {
  auto logger = spdlog::stderr_color_mt("loopnbd");
  logger->set_pattern(std::getenv("JOURNAL_STREAM") != nullptr ? "%^%l%$: %v"
                                                               : "%Y-%m-%d %H:%M:%S.%e %^%l%$: %v");
  set_default(std::move(logger), level);
}

void start_in_background(const std::string& level) {
  auto system =
      std::make_shared<spdlog::sinks::syslog_sink_mt>("loopnbd", LOG_PID, LOG_DAEMON, false);
  auto standard_error = std::make_shared<spdlog::sinks::stderr_color_sink_mt>();
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
