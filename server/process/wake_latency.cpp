#include "server/process/wake_latency.h"

#include <fcntl.h>
#include <fmt/format.h>

#include <cerrno>
#include <cstring>
#include <stdexcept>
#include <utility>

#include "server/base/log.h"

namespace server {
namespace {

constexpr const char* device_path = "/dev/cpu_dma_latency";
constexpr auto no_limit = std::chrono::microseconds(2'000'000'000);  // as the kernel has it
constexpr auto watch_interval = std::chrono::milliseconds(100);
// In an interval. Fewer are somebody who asks for the status, and would gain little.
constexpr auto turns_at_work = std::uint64_t{10};

}  // namespace

engine::FileDescriptor open_wake_latency_device() {
  auto device = engine::FileDescriptor(::open(device_path, O_WRONLY | O_CLOEXEC));
  const auto error = errno;
  if (!device)
    throw std::runtime_error(fmt::format(
        "cannot limit how long processors take to wake up (wake_latency_us): {}: {}; start the "
        "server as root where the device is, or leave wake_latency_us out",
        device_path, std::strerror(error)));
  return device;
}

WakeLatency::WakeLatency(asio::io_context& io_context, std::chrono::microseconds latency_max,
                         std::function<std::uint64_t()> count_turns)
    : io_context_(io_context),
      latency_max_(latency_max),
      count_turns_(std::move(count_turns)),
      device_(open_wake_latency_device()) {}

void WakeLatency::start() { asio::co_spawn(io_context_, watch(), asio::detached); }

Awaitable<void> WakeLatency::watch() {
  auto timer = Timer(io_context_);
  auto limited = false;
  for (auto before = count_turns_();;) {
    timer.expires_after(watch_interval);
    co_await timer.async_wait(as_result);
    const auto now = count_turns_();
    const auto at_work = now - std::exchange(before, now) >= turns_at_work;
    if (at_work != std::exchange(limited, at_work)) limit(at_work ? latency_max_ : no_limit);
  }
}

void WakeLatency::limit(std::chrono::microseconds latency) {
  const auto value = static_cast<std::int32_t>(latency.count());
  if (::write(device_.get(), &value, sizeof value) < 0)
    log::warn("cannot set {} to {} us: {}", device_path, value, std::strerror(errno));
}

}  // namespace server
