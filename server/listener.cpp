#include "server/listener.h"

#include <arpa/inet.h>
#include <fmt/format.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <sys/socket.h>

#include <array>
#include <cerrno>
#include <chrono>
#include <cstring>
#include <utility>

#include "server/log.h"

namespace server {
namespace {

// Accepted before the event loop looks at anything else.
constexpr auto accepted_max_per_turn = 64;
constexpr auto pause_without_descriptors = std::chrono::milliseconds(100);

void set_option(int socket, int level, int option, int value) noexcept {
  ::setsockopt(socket, level, option, &value, sizeof value);
}

// Sockets without an Internet address refuse these options, which does no harm.
void configure(int socket) noexcept {
  set_option(socket, IPPROTO_TCP, TCP_NODELAY, 1);
  // A client that vanished without a word is found out within a minute.
  set_option(socket, SOL_SOCKET, SO_KEEPALIVE, 1);
  set_option(socket, IPPROTO_TCP, TCP_KEEPIDLE, 30);
  set_option(socket, IPPROTO_TCP, TCP_KEEPINTVL, 10);
  set_option(socket, IPPROTO_TCP, TCP_KEEPCNT, 3);
}

std::string peer_name(int socket, const sockaddr_storage& peer) {
  auto text = std::array<char, INET6_ADDRSTRLEN>{};
  if (peer.ss_family == AF_INET) {
    const auto& ip4 = reinterpret_cast<const sockaddr_in&>(peer);
    ::inet_ntop(AF_INET, &ip4.sin_addr, text.data(), text.size());
    return fmt::format("{}:{}", text.data(), ntohs(ip4.sin_port));
  }
  if (peer.ss_family == AF_INET6) {
    const auto& ip6 = reinterpret_cast<const sockaddr_in6&>(peer);
    ::inet_ntop(AF_INET6, &ip6.sin6_addr, text.data(), text.size());
    return fmt::format("[{}]:{}", text.data(), ntohs(ip6.sin6_port));
  }
  auto credentials = ucred{};
  auto length = socklen_t{sizeof credentials};
  if (peer.ss_family == AF_UNIX &&
      ::getsockopt(socket, SOL_SOCKET, SO_PEERCRED, &credentials, &length) == 0)
    return fmt::format("process {} of user {}", credentials.pid, credentials.uid);
  return "a client";
}

}  // namespace

Listener::Listener(asio::io_context& io_context, ListeningSocket socket, Accepted accepted)
    : socket_(std::move(socket)),
      descriptor_(io_context, socket_.fd()),
      pause_(io_context),
      accepted_(std::move(accepted)) {
  wait();
}

Listener::~Listener() { descriptor_.release(); }

void Listener::wait() {
  descriptor_.async_wait(Descriptor::wait_read, [this](const boost::system::error_code& failure) {
    if (!failure) accept_all();
  });
}

void Listener::accept_all() {
  for (auto count = 0; count < accepted_max_per_turn; ++count) {
    auto peer = sockaddr_storage{};
    auto length = socklen_t{sizeof peer};
    auto socket = UniqueFd(::accept4(socket_.fd(), reinterpret_cast<sockaddr*>(&peer), &length,
                                     SOCK_NONBLOCK | SOCK_CLOEXEC));
    const auto error = socket ? 0 : errno;
    if (error == EAGAIN) break;
    if (error == EMFILE || error == ENFILE || error == ENOBUFS || error == ENOMEM) {
      // The client stays in the backlog; accepting at once would fail again.
      log::error(
          "{}: cannot accept: {}; trying again (LimitNOFILE= or ulimit -n sets how many files may "
          "be open)",
          name(), std::strerror(error));
      pause_.expires_after(pause_without_descriptors);
      pause_.async_wait([this](const boost::system::error_code& cancelled) {
        if (!cancelled) wait();
      });
      return;
    }
    if (error != 0) continue;  // that client is gone already
    configure(socket.get());
    auto name = peer_name(socket.get(), peer);
    accepted_(std::move(socket), std::move(name));
  }
  wait();
}

}  // namespace server
