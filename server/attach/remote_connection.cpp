#include "server/attach/remote_connection.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <netdb.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <sys/socket.h>
#include <sys/un.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstring>
#include <memory>
#include <span>
#include <stdexcept>
#include <string>
#include <vector>

#include "server/net/socket_options.h"

namespace server {
namespace {

using Clock = std::chrono::steady_clock;

// An address to try, of any family.
struct SocketAddress {
  sockaddr_storage storage{};
  socklen_t length = 0;
};

[[noreturn]] void fail(const RemoteAddress& address, const std::string& reason) {
  throw std::runtime_error(fmt::format("cannot attach {}: {}", address.canonical(), reason));
}

std::vector<SocketAddress> resolve(const RemoteAddress& address) {
  auto found = std::vector<SocketAddress>{};
  if (!address.socket_path.empty()) {
    auto local = sockaddr_un{};
    if (address.socket_path.size() >= sizeof local.sun_path)
      fail(address, "the path of the socket is too long");
    local.sun_family = AF_UNIX;
    std::ranges::copy(address.socket_path, local.sun_path);
    auto& entry = found.emplace_back();
    std::memcpy(&entry.storage, &local, sizeof local);
    entry.length = sizeof local;
    return found;
  }
  auto hints = addrinfo{};
  hints.ai_socktype = SOCK_STREAM;
  auto* list = static_cast<addrinfo*>(nullptr);
  const auto failure = ::getaddrinfo(address.host.c_str(), address.port.c_str(), &hints, &list);
  if (failure != 0) fail(address, ::gai_strerror(failure));
  const auto owner = std::unique_ptr<addrinfo, decltype(&::freeaddrinfo)>(list, &::freeaddrinfo);
  for (const auto* entry = list; entry != nullptr; entry = entry->ai_next) {
    auto& copy = found.emplace_back();
    std::memcpy(&copy.storage, entry->ai_addr, entry->ai_addrlen);
    copy.length = entry->ai_addrlen;
  }
  return found;
}

// False: the deadline has passed.
bool wait_until(int socket, short events, Clock::time_point deadline) noexcept {
  auto state = pollfd{.fd = socket, .events = events, .revents = 0};
  for (;;) {
    const auto left =
        std::chrono::duration_cast<std::chrono::milliseconds>(deadline - Clock::now()).count();
    if (left <= 0) return false;
    if (::poll(&state, 1, static_cast<int>(left)) > 0) return true;
  }
}

// A server that is gone is found out within half a minute, whether requests are under way or not.
constexpr auto keep_alive = KeepAlive{
    .idle = std::chrono::seconds(10), .interval = std::chrono::seconds(5), .probes_max = 4};
constexpr int unanswered_max = 30'000;  // ms

// Empty, and `error` set, when it cannot be connected.
engine::FileDescriptor connect_to(const SocketAddress& address, Clock::time_point deadline,
                                  int& error) {
  const auto family = address.storage.ss_family;
  auto socket =
      engine::FileDescriptor(::socket(family, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0));
  error = socket ? 0 : errno;
  if (!socket) return socket;
  configure(socket.get(), keep_alive);
  ::setsockopt(socket.get(), IPPROTO_TCP, TCP_USER_TIMEOUT, &unanswered_max, sizeof unanswered_max);
  if (::connect(socket.get(), reinterpret_cast<const sockaddr*>(&address.storage),
                address.length) == 0)
    return socket;
  error = errno;
  if (error != EINPROGRESS) return {};
  auto length = socklen_t{sizeof error};
  if (!wait_until(socket.get(), POLLOUT, deadline))
    error = ETIMEDOUT;
  else if (::getsockopt(socket.get(), SOL_SOCKET, SO_ERROR, &error, &length) != 0)
    error = errno;
  return error == 0 ? std::move(socket) : engine::FileDescriptor();
}

engine::FileDescriptor connect_to_any(const RemoteAddress& address, Clock::time_point deadline) {
  auto error = 0;
  for (const auto& candidate : resolve(address))
    if (auto socket = connect_to(candidate, deadline, error)) return socket;
  fail(address, fmt::format("{}; is the server running?", std::strerror(error)));
}

void send_all(const RemoteAddress& address, int socket, std::span<const std::byte> bytes,
              Clock::time_point deadline) {
  while (!bytes.empty()) {
    const auto sent = ::send(socket, bytes.data(), bytes.size(), MSG_NOSIGNAL);
    const auto error = errno;
    if (sent > 0) {
      bytes = bytes.subspan(static_cast<std::size_t>(sent));
    } else if (error != EAGAIN && error != EINTR) {
      fail(address, std::strerror(error));
    } else if (!wait_until(socket, POLLOUT, deadline)) {
      fail(address, "the server does not read what it is sent");
    }
  }
}

std::size_t receive_some(const RemoteAddress& address, int socket, std::span<std::byte> room,
                         Clock::time_point deadline) {
  for (;;) {
    const auto received = ::recv(socket, room.data(), room.size(), 0);
    const auto error = errno;
    if (received > 0) return static_cast<std::size_t>(received);
    if (received == 0) fail(address, "the server closed the connection during the handshake");
    if (error != EAGAIN && error != EINTR) fail(address, std::strerror(error));
    if (!wait_until(socket, POLLIN, deadline)) fail(address, "the server does not answer");
  }
}

}  // namespace

RemoteConnection connect_remote(const RemoteAddress& address, std::chrono::milliseconds deadline) {
  const auto until = Clock::now() + deadline;
  auto connection = RemoteConnection{};
  connection.socket = connect_to_any(address, until);
  const auto socket = connection.socket.get();
  auto negotiation = proto::ClientNegotiation(address.export_name);
  auto room = std::array<std::byte, 4096>{};
  auto output = std::vector<std::byte>{};
  auto next = proto::ClientNegotiation::Next::receive;
  while (next == proto::ClientNegotiation::Next::receive) {
    const auto wanted = std::span(room).first(std::min(room.size(), negotiation.missing()));
    const auto received = receive_some(address, socket, wanted, until);
    output.clear();
    next = negotiation.receive(wanted.first(received), output);
    send_all(address, socket, output, until);
  }
  if (next == proto::ClientNegotiation::Next::failed)
    fail(address, std::string(negotiation.reason()));
  connection.remote_export = negotiation.result();
  // The kernel's client waits in its calls.
  ::fcntl(socket, F_SETFL, ::fcntl(socket, F_GETFL) & ~O_NONBLOCK);
  return connection;
}

void abort_connection(int socket) noexcept {
  // First whoever waits in it must leave; then disconnecting drops what is not sent yet and resets
  // the connection. A Unix socket has delivered everything already and refuses the second step.
  ::shutdown(socket, SHUT_RDWR);
  const auto nowhere = sockaddr{.sa_family = AF_UNSPEC, .sa_data = {}};
  static_cast<void>(::connect(socket, &nowhere, sizeof nowhere));
}

}  // namespace server
