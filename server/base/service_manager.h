// Messages to a service manager by systemd's protocol (sd_notify(3)): datagrams to the socket named
// in the environment. Any thread; nothing here waits.
#pragma once

#include <chrono>
#include <string_view>

namespace server {

// Whether one listens (NOTIFY_SOCKET).
bool has_service_manager() noexcept;

// 0, or -errno; what there is no room for at once is lost, with EAGAIN. Without a service manager
// nothing happens.
int tell_service_manager(std::string_view state) noexcept;

// How often it wants a sign of life from this process, at least (WATCHDOG_USEC, WATCHDOG_PID);
// zero: not at all.
std::chrono::microseconds watchdog_interval() noexcept;

}  // namespace server
