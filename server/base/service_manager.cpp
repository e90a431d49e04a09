#include "server/base/service_manager.h"

#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <charconv>
#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <optional>
#include <system_error>

#include "engine/file_descriptor.h"

namespace server {
namespace {

std::string_view variable(const char* name) noexcept {
  const auto* const value = std::getenv(name);
  return value == nullptr ? std::string_view() : std::string_view(value);
}

std::optional<std::int64_t> number_in(std::string_view text) noexcept {
  auto number = std::int64_t{0};
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), number);
  if (error != std::errc() || end != text.data() + text.size() || number < 0) return std::nullopt;
  return number;
}

}  // namespace

bool has_service_manager() noexcept { return !variable("NOTIFY_SOCKET").empty(); }

int tell_service_manager(std::string_view state) noexcept {
  const auto name = variable("NOTIFY_SOCKET");
  auto address = sockaddr_un{};
  if (name.empty()) return 0;
  if (name.size() >= sizeof address.sun_path) return -ENAMETOOLONG;
  address.sun_family = AF_UNIX;
  std::ranges::copy(name, address.sun_path);
  if (name.front() == '@') address.sun_path[0] = '\0';  // a name in the abstract namespace
  const auto socket = engine::FileDescriptor(::socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0));
  if (!socket) return -errno;
  const auto size = static_cast<socklen_t>(offsetof(sockaddr_un, sun_path) + name.size());
  const auto sent = ::sendto(socket.get(), state.data(), state.size(), MSG_NOSIGNAL | MSG_DONTWAIT,
                             reinterpret_cast<const sockaddr*>(&address), size);
  return sent < 0 ? -errno : 0;
}

std::chrono::microseconds watchdog_interval() noexcept {
  const auto process = variable("WATCHDOG_PID");
  if (!process.empty() && number_in(process) != std::int64_t{::getpid()}) return {};
  return std::chrono::microseconds(number_in(variable("WATCHDOG_USEC")).value_or(0));
}

}  // namespace server
