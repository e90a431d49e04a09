// Logging: one line an event on standard error, as text or JSON, so that standard output stays free
// for --stdio. A message may hold anything: no control character leaves here, and no line is longer
// than a pipe takes at once. Any thread.
#pragma once

#include <fmt/format.h>
#include <spdlog/spdlog.h>

#include <atomic>
#include <chrono>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

namespace server::log {

// `level`: trace, debug, info, warn, error, critical or off; `format`: text or json; the caller has
// validated both. The environment variable JOURNAL_STREAM (set by systemd) drops the time stamp of
// text, which the journal adds itself.
void start(const std::string& level, const std::string& format = "text");

// Any thread. `level` as above.
void set_level(const std::string& level);
// As start(), and to the system's log as well, for a process that lets go of standard error.
void start_in_background(const std::string& level);

// A request, and where its time went.
struct RequestFields {
  std::string_view command;
  std::uint64_t offset = 0;  // bytes
  std::uint64_t length = 0;  // bytes
  std::optional<std::chrono::nanoseconds> queue = std::nullopt;
  std::optional<std::chrono::nanoseconds> device = std::nullopt;
  std::optional<std::chrono::nanoseconds> send = std::nullopt;
  std::string_view stage = {};  // where it is; empty: it is over
};

// The subject of an event, where it matters: members of the JSON object. The message of a text
// line says it in words. Views: alive until the call returns.
struct Fields {
  std::string_view client = {};
  std::optional<std::string_view> export_name = std::nullopt;
  std::optional<RequestFields> request = std::nullopt;
};

using Level = spdlog::level::level_enum;

void write(Level level, const Fields& fields, std::string_view message);

// How an event is said: log::info("…", argument...) or log::info(fields, "…", argument...).
template <Level level>
struct Writer {
  template <typename... Arguments>
  void operator()(const Fields& fields, fmt::format_string<Arguments...> format,
                  Arguments&&... arguments) const {
    if (spdlog::should_log(level))
      write(level, fields, fmt::format(format, std::forward<Arguments>(arguments)...));
  }
  template <typename... Arguments>
  void operator()(fmt::format_string<Arguments...> format, Arguments&&... arguments) const {
    (*this)(Fields{}, format, std::forward<Arguments>(arguments)...);
  }
};

inline constexpr Writer<Level::debug> debug;
inline constexpr Writer<Level::info> info;
inline constexpr Writer<Level::warn> warn;
inline constexpr Writer<Level::err> error;

// Lets through a burst of events and then so many a second, so that a client cannot fill the log.
// Any thread; an event more or less in a race is accepted.
class RateLimit {
 public:
  explicit RateLimit(std::int64_t burst = 10, std::int64_t per_second = 1) noexcept
      : burst_(burst), per_second_(per_second), credit_(burst) {}

  // Nothing: stay silent. Otherwise the number of events that were kept silent since the last one
  // let through.
  std::optional<std::uint64_t> admit() noexcept;

 private:
  const std::int64_t burst_;
  const std::int64_t per_second_;
  std::atomic<std::int64_t> credit_;
  std::atomic<std::int64_t> last_second_{0};
  std::atomic<std::uint64_t> silenced_{0};
};

// " (3 more like it were not logged)", or nothing: for the end of a message.
std::string silenced_text(std::uint64_t silenced);

// The limit for what is said of connections, which come and go as often as clients like. Clients
// that have chosen an export have one of their own, so that others cannot silence them.
RateLimit& connection_limit(bool has_export) noexcept;

// One event of a connection, through that limit.
template <Level level = Level::info, typename... Arguments>
void connection(const Fields& fields, fmt::format_string<Arguments...> format,
                Arguments&&... arguments) {
  if (!spdlog::should_log(level)) return;
  if (const auto silenced = connection_limit(fields.export_name.has_value()).admit())
    write(level, fields,
          fmt::format(format, std::forward<Arguments>(arguments)...) + silenced_text(*silenced));
}

}  // namespace server::log
