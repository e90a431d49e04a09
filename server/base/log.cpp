#include "server/base/log.h"

#include <fmt/chrono.h>
#include <poll.h>
#include <spdlog/sinks/ansicolor_sink.h>
#include <spdlog/sinks/syslog_sink.h>
#include <syslog.h>
#include <unistd.h>

#include <boost/json.hpp>
#include <cstdlib>
#include <memory>
#include <utility>

#include "engine/mutex.h"
#include "proto/text.h"
#include "server/base/text.h"

namespace server::log {
namespace {

bool writes_json = false;  // set before there are threads

// With what goes before it, a line is no longer than PIPE_BUF.
constexpr std::size_t line_length_max = 4000;         // bytes
constexpr std::size_t client_length_max = 256;        // bytes
constexpr std::size_t export_name_length_max = 1024;  // bytes

std::string time_stamp() {
  const auto now = std::chrono::system_clock::now();
  const auto since = std::chrono::duration_cast<std::chrono::milliseconds>(now.time_since_epoch());
  return fmt::format("{:%Y-%m-%dT%H:%M:%S}.{:03}Z",
                     fmt::gmtime(std::chrono::system_clock::to_time_t(now)), since.count() % 1000);
}

void add_duration(boost::json::object& object, std::string_view name,
                  const std::optional<std::chrono::nanoseconds>& duration) {
  if (duration) object[name] = microseconds_of(*duration);
}

boost::json::object object_of(Level level, const Fields& fields) {
  auto object = boost::json::object();
  object["time"] = time_stamp();
  const auto name = spdlog::level::to_string_view(level);
  object["level"] = boost::json::string_view(name.data(), name.size());
  object["message"] = nullptr;
  if (!fields.client.empty()) object["client"] = proto::printable(fields.client, client_length_max);
  if (fields.export_name)
    object["export"] = proto::printable(*fields.export_name, export_name_length_max);
  if (fields.request) {
    object["command"] = fields.request->command;
    object["offset"] = fields.request->offset;
    object["length"] = fields.request->length;
    add_duration(object, "queue_us", fields.request->queue);
    add_duration(object, "device_us", fields.request->device);
    add_duration(object, "send_us", fields.request->send);
    if (!fields.request->stage.empty()) object["stage"] = fields.request->stage;
  }
  return object;
}

std::string json_line(Level level, const Fields& fields, std::string_view message) {
  auto object = object_of(level, fields);
  for (auto length_max = line_length_max;; length_max /= 2) {
    object["message"] = proto::printable(message, length_max);
    auto line = boost::json::serialize(object);
    if (line.size() <= line_length_max || length_max == 0) return line;
  }
}

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
    const engine::MutexLock lock(mutex_);
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
  // A pipe says so when it takes PIPE_BUF bytes; no line is longer.
  static bool has_room() noexcept {
    auto state = pollfd{.fd = STDERR_FILENO, .events = POLLOUT, .revents = 0};
    return ::poll(&state, 1, 0) > 0;
  }
  void write(const spdlog::details::log_msg& message) { ansicolor_stderr_sink::log(message); }

  engine::Mutex mutex_;
  std::uint64_t lost_ LOOPNBD_GUARDED_BY(mutex_) = 0;  // lines since the last one written
};

}  // namespace

void start(const std::string& level, const std::string& format) {
  writes_json = format == "json";
  auto logger = std::make_shared<spdlog::logger>("loopnbd", std::make_shared<Sink>());
  if (writes_json) {
    logger->set_pattern("%v");
  } else {
    logger->set_pattern(std::getenv("JOURNAL_STREAM") != nullptr
                            ? "%^%l%$: %v"
                            : "%Y-%m-%d %H:%M:%S.%e %^%l%$: %v");
  }
  set_default(std::move(logger), level);
}

void start_in_background(const std::string& level) {
  auto system =
      std::make_shared<spdlog::sinks::syslog_sink_mt>("loopnbd", LOG_PID, LOG_DAEMON, false);
  auto standard_error = std::make_shared<Sink>();
  // The caller waits for the process to be ready, and wants to know what is wrong and no more.
  standard_error->set_level(spdlog::level::warn);
  standard_error->set_pattern("loopnbd: %v");
  const auto sinks = {spdlog::sink_ptr(std::move(standard_error)), spdlog::sink_ptr(system)};
  set_default(std::make_shared<spdlog::logger>("loopnbd", sinks), level);
}

void set_level(const std::string& level) { spdlog::set_level(spdlog::level::from_str(level)); }

void write(Level level, const Fields& fields, std::string_view message) {
  spdlog::log(
      level, "{}",
      writes_json ? json_line(level, fields, message) : proto::printable(message, line_length_max));
}

RateLimit& connection_limit(bool has_export) noexcept {
  constexpr auto burst = 200;
  constexpr auto per_second = 20;
  static auto of_strangers = RateLimit(burst, per_second);
  static auto of_clients = RateLimit(burst, per_second);
  return has_export ? of_clients : of_strangers;
}

std::string silenced_text(std::uint64_t silenced) {
  return silenced == 0 ? "" : fmt::format(" ({} more like it were not logged)", silenced);
}

std::optional<std::uint64_t> RateLimit::admit() noexcept {
  const auto now = std::chrono::duration_cast<std::chrono::seconds>(
                       std::chrono::steady_clock::now().time_since_epoch())
                       .count();
  const auto before = last_second_.exchange(now, std::memory_order_relaxed);
  if (before != 0 && now > before)
    credit_.store(
        std::min(burst_, credit_.load(std::memory_order_relaxed) + (now - before) * per_second_),
        std::memory_order_relaxed);
  if (credit_.fetch_sub(1, std::memory_order_relaxed) > 0)
    return silenced_.exchange(0, std::memory_order_relaxed);
  credit_.store(0, std::memory_order_relaxed);
  silenced_.fetch_add(1, std::memory_order_relaxed);
  return std::nullopt;
}

}  // namespace server::log
