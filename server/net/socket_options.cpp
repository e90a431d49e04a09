#include "server/net/socket_options.h"

#include <netinet/in.h>
#include <netinet/tcp.h>
#include <sys/socket.h>

#include <algorithm>

namespace server {
namespace {

void set_option(int socket, int level, int option, int value) noexcept {
  ::setsockopt(socket, level, option, &value, sizeof value);
}

// Bytes that a peer on the same machine need not have read yet: enough for a reply of 256 KiB to go
// at once, where the default makes both ends wait in the middle. The kernel doubles it for its own
// use, and net.core.wmem_max limits it.
constexpr int local_send_buffer_size = 1 << 20;

bool is_local(int socket) noexcept {
  auto domain = int{AF_UNSPEC};
  auto length = socklen_t{sizeof domain};
  return ::getsockopt(socket, SOL_SOCKET, SO_DOMAIN, &domain, &length) == 0 && domain == AF_UNIX;
}

}  // namespace

void limit_send_buffer(int socket, std::size_t size) noexcept {
  const auto value = static_cast<int>(std::min<std::size_t>(size, local_send_buffer_size * 2));
  // The kernel doubles the one. TCP goes on sizing its buffers, with what is under way and what the
  // other end has room for; only what waits for that is limited.
  if (is_local(socket)) return set_option(socket, SOL_SOCKET, SO_SNDBUF, value / 2);
  set_option(socket, IPPROTO_TCP, TCP_NOTSENT_LOWAT, value);
}

void configure(int socket, const KeepAlive& keep_alive) noexcept {
  // TCP sizes its buffers by itself.
  if (is_local(socket)) return set_option(socket, SOL_SOCKET, SO_SNDBUF, local_send_buffer_size);
  set_option(socket, IPPROTO_TCP, TCP_NODELAY, 1);
  set_option(socket, SOL_SOCKET, SO_KEEPALIVE, 1);
  set_option(socket, IPPROTO_TCP, TCP_KEEPIDLE, static_cast<int>(keep_alive.idle.count()));
  set_option(socket, IPPROTO_TCP, TCP_KEEPINTVL, static_cast<int>(keep_alive.interval.count()));
  set_option(socket, IPPROTO_TCP, TCP_KEEPCNT, keep_alive.probes_max);
}

}  // namespace server
