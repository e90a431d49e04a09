#include "server/net/listen_address.h"

#include <arpa/inet.h>
#include <fcntl.h>
#include <net/if.h>
#include <netdb.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
// After sys/socket.h, which it needs.
#include <linux/vm_sockets.h>

#include <fmt/format.h>

#include <array>
#include <cerrno>
#include <charconv>
#include <cstdlib>
#include <cstring>
#include <memory>
#include <optional>
#include <stdexcept>
#include <utility>

#include "server/base/log.h"

namespace server {
namespace {

constexpr int first_passed_fd = 3;  // SD_LISTEN_FDS_START
constexpr std::string_view ipv6_wildcard = "::";

// A step of listening that the kernel refused.
class ListenError : public std::runtime_error {
 public:
  ListenError(std::string_view address, std::string_view step, int error, std::string_view remedy)
      : runtime_error(fmt::format("cannot listen on {}: {}: {}{}{}", address, step,
                                  std::strerror(error), remedy.empty() ? "" : "; ", remedy)),
        error_(error) {}

  // The kernel has no such protocol, or no interface has the address: that is no fault of the
  // operator where a name stands for several addresses.
  bool is_absent() const noexcept { return error_ == EAFNOSUPPORT || error_ == EADDRNOTAVAIL; }

 private:
  int error_;
};

[[noreturn]] void fail(std::string_view address, std::string_view step, int error,
                       std::string_view remedy) {
  throw ListenError(address, step, error, remedy);
}

template <typename Number>
std::optional<Number> parse_number(std::string_view text) {
  auto number = Number{};
  const auto [end, failure] = std::from_chars(text.data(), text.data() + text.size(), number);
  if (failure != std::errc{} || end != text.data() + text.size()) return std::nullopt;
  return number;
}

struct HostPort {
  std::string host;  // empty: all addresses
  std::string port;
};

std::optional<HostPort> split_host_port(std::string_view address) {
  const auto colon = address.rfind(':');
  if (colon == std::string_view::npos || !parse_number<std::uint16_t>(address.substr(colon + 1)))
    return std::nullopt;
  auto host = address.substr(0, colon);
  if (host.starts_with('[') && host.ends_with(']')) {
    host = host.substr(1, host.size() - 2);
  } else if (host.find(':') != std::string_view::npos) {
    return std::nullopt;  // an IPv6 address without brackets
  }
  return HostPort{std::string(host), std::string(address.substr(colon + 1))};
}

std::string format_address(const sockaddr_storage& storage) {
  auto text = std::array<char, INET6_ADDRSTRLEN>{};
  if (storage.ss_family == AF_INET) {
    const auto& ip4 = reinterpret_cast<const sockaddr_in&>(storage);
    ::inet_ntop(AF_INET, &ip4.sin_addr, text.data(), text.size());
    return fmt::format("{}:{}", text.data(), ntohs(ip4.sin_port));
  }
  if (storage.ss_family == AF_INET6) {
    const auto& ip6 = reinterpret_cast<const sockaddr_in6&>(storage);
    ::inet_ntop(AF_INET6, &ip6.sin6_addr, text.data(), text.size());
    // A link-local address belongs to an interface, and is of no use without it.
    auto interface = std::array<char, IF_NAMESIZE>{};
    const auto scoped =
        ip6.sin6_scope_id != 0 && ::if_indextoname(ip6.sin6_scope_id, interface.data()) != nullptr;
    return fmt::format("[{}{}{}]:{}", text.data(), scoped ? "%" : "", interface.data(),
                       ntohs(ip6.sin6_port));
  }
  if (storage.ss_family == AF_UNIX) {
    const auto& local = reinterpret_cast<const sockaddr_un&>(storage);
    return fmt::format("unix:{}", local.sun_path);
  }
  if (storage.ss_family == AF_VSOCK)
    return fmt::format("vsock:{}", reinterpret_cast<const sockaddr_vm&>(storage).svm_port);
  return "a passed socket";
}

std::string name_of(int fd) {
  auto storage = sockaddr_storage{};
  auto length = socklen_t{sizeof storage};
  ::getsockname(fd, reinterpret_cast<sockaddr*>(&storage), &length);
  return format_address(storage);
}

std::string_view remedy_for_bind(int error) {
  switch (error) {
    case EADDRINUSE:
      return "another server is there: choose another address or end that server";
    case EACCES:
      return "ports below 1024 and some folders need privileges: choose another";
    case EADDRNOTAVAIL:
      return "no interface of this machine has it: `ip address` shows those there are";
    case ENOENT:
      return "make the folder first";
    default:
      return "";
  }
}

std::string_view remedy_for_socket(int error) {
  return error == EAFNOSUPPORT ? "this kernel does not have the protocol: choose another address"
                               : "";
}

engine::FileDescriptor bound_socket(int family, const sockaddr* where, socklen_t length,
                                    std::string_view address, const char* private_path = nullptr) {
  auto socket =
      engine::FileDescriptor(::socket(family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0));
  if (!socket) fail(address, "socket", errno, remedy_for_socket(errno));
  const int on = 1;
  ::setsockopt(socket.get(), SOL_SOCKET, SO_REUSEADDR, &on, sizeof on);
  // So that the wildcard of IPv6 and that of IPv4 can both be listened on.
  if (family == AF_INET6) ::setsockopt(socket.get(), IPPROTO_IPV6, IPV6_V6ONLY, &on, sizeof on);
  if (::bind(socket.get(), where, length) != 0)
    fail(address, "bind", errno, remedy_for_bind(errno));
  // Before anybody can connect.
  if (private_path != nullptr && ::chmod(private_path, S_IRUSR | S_IWUSR) != 0)
    fail(address, "chmod", errno, "");
  if (::listen(socket.get(), SOMAXCONN) != 0) fail(address, "listen", errno, "");
  return socket;
}

// A socket file that nobody listens on stays behind when a server is killed.
void remove_stale_socket(const sockaddr_un& where, std::string_view address) {
  struct stat status {};
  if (::lstat(where.sun_path, &status) != 0) return;
  if (!S_ISSOCK(status.st_mode))
    throw std::runtime_error(fmt::format(
        "cannot listen on {}: there is a file that is not a socket: choose another path", address));
  const auto probe =
      engine::FileDescriptor(::socket(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0));
  const auto refused =
      ::connect(probe.get(), reinterpret_cast<const sockaddr*>(&where), sizeof where) != 0 &&
      errno == ECONNREFUSED;
  if (!refused)
    throw std::runtime_error(fmt::format(
        "cannot listen on {}: another server is there: choose another path or end that server",
        address));
  ::unlink(where.sun_path);
}

ListeningSocket open_unix(std::string_view path, const std::string& address,
                          bool for_owner_only = false) {
  auto where = sockaddr_un{};
  where.sun_family = AF_UNIX;
  if (path.empty() || path.size() >= sizeof where.sun_path)
    throw std::runtime_error(fmt::format("cannot listen on {}: a socket's path has 1 to {} bytes",
                                         address, sizeof where.sun_path - 1));
  std::memcpy(where.sun_path, path.data(), path.size());
  remove_stale_socket(where, address);
  auto socket = bound_socket(AF_UNIX, reinterpret_cast<const sockaddr*>(&where), sizeof where,
                             address, for_owner_only ? where.sun_path : nullptr);
  return {std::move(socket), address, std::string(path)};
}

ListeningSocket open_vsock(std::string_view port, const std::string& address) {
  auto where = sockaddr_vm{};
  where.svm_family = AF_VSOCK;
  where.svm_cid = VMADDR_CID_ANY;
  where.svm_port = parse_number<std::uint32_t>(port).value();
  return {bound_socket(AF_VSOCK, reinterpret_cast<const sockaddr*>(&where), sizeof where, address),
          address};
}

std::vector<ListeningSocket> open_tcp(const HostPort& host_port, const std::string& address) {
  auto hints = addrinfo{};
  hints.ai_socktype = SOCK_STREAM;
  hints.ai_flags = AI_PASSIVE;
  addrinfo* found = nullptr;
  const auto failure = ::getaddrinfo(
      host_port.host.empty() || host_port.host == "*" ? nullptr : host_port.host.c_str(),
      host_port.port.c_str(), &hints, &found);
  if (failure != 0)
    throw std::runtime_error(
        fmt::format("cannot listen on {}: {}", address, ::gai_strerror(failure)));
  const auto addresses =
      std::unique_ptr<addrinfo, decltype(&::freeaddrinfo)>(found, ::freeaddrinfo);
  auto sockets = std::vector<ListeningSocket>{};
  auto absent = std::optional<ListenError>{};
  for (const auto* entry = found; entry != nullptr; entry = entry->ai_next) {
    try {
      auto socket = bound_socket(entry->ai_family, entry->ai_addr, entry->ai_addrlen, address);
      auto name = name_of(socket.get());
      sockets.emplace_back(std::move(socket), std::move(name));
    } catch (const ListenError& error) {
      if (!error.is_absent()) throw;
      absent = error;
    }
  }
  if (absent && (!sockets.empty() || host_port.host == ipv6_wildcard)) {
    log::warn("{}; going on without it", absent->what());
  } else if (absent) {
    throw ListenError(*absent);
  }
  return sockets;
}

}  // namespace

ListeningSocket::ListeningSocket(engine::FileDescriptor socket, std::string name,
                                 std::string unix_path)
    : socket_(std::move(socket)), name_(std::move(name)), unix_path_(std::move(unix_path)) {}

ListeningSocket::~ListeningSocket() {
  if (socket_ && !unix_path_.empty()) ::unlink(unix_path_.c_str());
}

void check_listen_address(std::string_view address) {
  const auto valid =
      address.starts_with(unix_prefix) ? address.size() > unix_prefix.size()
      : address.starts_with(vsock_prefix)
          ? parse_number<std::uint32_t>(address.substr(vsock_prefix.size())).has_value()
          : split_host_port(address).has_value();
  if (!valid)
    throw std::runtime_error(fmt::format(
        "\"{}\" is not a listen address: write HOST:PORT, [IPv6]:PORT, unix:PATH or vsock:PORT",
        address));
}

std::vector<ListeningSocket> open_listening_sockets(const std::string& address) {
  check_listen_address(address);
  const auto text = std::string_view(address);
  if (!text.starts_with(unix_prefix) && !text.starts_with(vsock_prefix))
    return open_tcp(*split_host_port(address), address);
  auto sockets = std::vector<ListeningSocket>{};
  sockets.push_back(text.starts_with(unix_prefix)
                        ? open_unix(text.substr(unix_prefix.size()), address)
                        : open_vsock(text.substr(vsock_prefix.size()), address));
  return sockets;
}

ListeningSocket open_private_socket(const std::string& path) {
  return open_unix(path, std::string(unix_prefix) + path, true);
}

std::vector<ListeningSocket> take_passed_sockets() {
  auto sockets = std::vector<ListeningSocket>{};
  const auto* const pid = std::getenv("LISTEN_PID");
  const auto* const count = std::getenv("LISTEN_FDS");
  if (pid == nullptr || count == nullptr || parse_number<pid_t>(pid) != ::getpid()) return sockets;
  const auto passed = parse_number<std::uint16_t>(count).value_or(0);
  for (auto fd = first_passed_fd; fd < first_passed_fd + passed; ++fd) {
    auto socket = engine::FileDescriptor(fd);
    int listening = 0;
    auto length = socklen_t{sizeof listening};
    if (::getsockopt(fd, SOL_SOCKET, SO_ACCEPTCONN, &listening, &length) != 0 || listening == 0)
      throw std::runtime_error(
          fmt::format("file descriptor {}, passed by LISTEN_FDS, is not a listening stream socket: "
                      "use Accept=no",
                      fd));
    ::fcntl(fd, F_SETFD, FD_CLOEXEC);
    ::fcntl(fd, F_SETFL, ::fcntl(fd, F_GETFL) | O_NONBLOCK);
    auto name = name_of(fd);
    sockets.emplace_back(std::move(socket), std::move(name));
  }
  ::unsetenv("LISTEN_PID");
  ::unsetenv("LISTEN_FDS");
  return sockets;
}

}  // namespace server
