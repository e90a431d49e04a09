#include "server/watch/notify.h"

#include <fmt/format.h>

#include <algorithm>
#include <cstdlib>
#include <cstring>
#include <ctime>
#include <string>
#include <utility>

#include "server/base/log.h"
#include "server/base/service_manager.h"
#include "server/base/text.h"

namespace server {
namespace {

using std::chrono::microseconds;

constexpr auto report_interval = microseconds(std::chrono::seconds(10));

std::string line_of(const ServerStatus& status) {
  const auto failed = std::ranges::count_if(
      status.exports, [](const auto& target) { return target.sync_error != 0; });
  return fmt::format("{}, {} of {} connections, {} of {} MiB in flight{}{}",
                     plural(status.exports.size(), "export"), status.connection_count(),
                     status.connections_max, status.memory_in_use() >> 20,
                     status.memory_budget() >> 20,
                     failed == 0 ? "" : fmt::format("; {} with a failed sync", failed),
                     status.draining ? "; draining" : "");
}

}  // namespace

Notify::Notify(asio::io_context& io_context, AskStatus ask)
    : io_context_(io_context),
      ask_(std::move(ask)),
      active_(has_service_manager()),
      watchdog_(watchdog_interval()) {}

void Notify::tell(const std::string& state) {
  const auto result = tell_service_manager(state);
  if (std::exchange(failing_, result < 0) || result >= 0) return;  // said once
  log::warn("cannot notify the service manager (NOTIFY_SOCKET={}): {}",
            std::getenv("NOTIFY_SOCKET"), std::strerror(-result));
}

void Notify::ready() {
  if (!active_) return;
  tell("READY=1");
  if (!std::exchange(reporting_, true)) asio::co_spawn(io_context_, report(), asio::detached);
}

void Notify::reloading() {
  if (!active_) return;
  auto now = timespec{};
  ::clock_gettime(CLOCK_MONOTONIC, &now);
  tell(fmt::format("RELOADING=1\nMONOTONIC_USEC={}", now.tv_sec * 1'000'000 + now.tv_nsec / 1000));
}

void Notify::stopping() {
  if (active_) tell("STOPPING=1\nSTATUS=finishing what is in flight");
}

Awaitable<void> Notify::report() {
  // Often enough that one late answer of a busy machine is no death sentence.
  const auto interval =
      watchdog_.count() > 0 ? std::min(report_interval, watchdog_ / 4) : report_interval;
  auto timer = Timer(io_context_);
  for (;;) {
    const auto status =
        co_await ask_(std::chrono::duration_cast<std::chrono::milliseconds>(interval));
    const auto line = "STATUS=" + line_of(status);
    if (status.all_workers_respond()) {
      tell(watchdog_.count() > 0 ? "WATCHDOG=1\n" + line : line);
    } else {
      log::error("not every worker responds{}",
                 watchdog_.count() > 0 ? "; the service manager's watchdog is not fed" : "");
    }
    timer.expires_after(interval);
    co_await timer.async_wait(as_result);
  }
}

}  // namespace server
