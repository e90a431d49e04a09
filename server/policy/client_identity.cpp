#include "server/policy/client_identity.h"

#include <arpa/inet.h>
#include <fmt/format.h>
#include <linux/vm_sockets.h>
#include <netinet/in.h>
#include <sys/socket.h>
#include <unistd.h>

#include <algorithm>

namespace server {
namespace {

IpAddress address_of(const sockaddr_in& from) {
  auto address = IpAddress{.is_ip4 = true};
  const auto* const begin = reinterpret_cast<const std::uint8_t*>(&from.sin_addr);
  std::copy_n(begin, 4, address.bytes.begin());
  return address;
}

IpAddress address_of(const sockaddr_in6& from) {
  const auto& bytes = from.sin6_addr.s6_addr;
  auto address = IpAddress{};
  if (IN6_IS_ADDR_V4MAPPED(&from.sin6_addr)) {
    address.is_ip4 = true;
    std::copy_n(std::begin(bytes) + 12, 4, address.bytes.begin());
  } else {
    std::copy(std::begin(bytes), std::end(bytes), address.bytes.begin());
  }
  return address;
}

std::vector<gid_t> groups_of(int socket, gid_t primary) {
  auto groups = std::vector<gid_t>(1, primary);
  auto length = socklen_t{0};
  // Asked without room, the kernel says how many bytes the supplementary groups take.
  ::getsockopt(socket, SOL_SOCKET, SO_PEERGROUPS, nullptr, &length);
  if (length == 0) return groups;
  auto supplementary = std::vector<gid_t>(length / sizeof(gid_t));
  if (::getsockopt(socket, SOL_SOCKET, SO_PEERGROUPS, supplementary.data(), &length) == 0)
    groups.insert(groups.end(), supplementary.begin(), supplementary.end());
  return groups;
}

}  // namespace

std::optional<IpAddress> parse_ip_address(const std::string& text) {
  auto ip4 = sockaddr_in{};
  auto ip6 = sockaddr_in6{};
  if (::inet_pton(AF_INET, text.c_str(), &ip4.sin_addr) == 1) return address_of(ip4);
  if (::inet_pton(AF_INET6, text.c_str(), &ip6.sin6_addr) == 1) return address_of(ip6);
  return std::nullopt;
}

ClientIdentity identify(int socket) {
  auto peer = sockaddr_storage{};
  auto length = socklen_t{sizeof peer};
  auto text = std::array<char, INET6_ADDRSTRLEN>{};
  auto client = ClientIdentity{.name = "a client"};
  if (::getpeername(socket, reinterpret_cast<sockaddr*>(&peer), &length) != 0) return client;
  if (peer.ss_family == AF_INET) {
    const auto& ip4 = reinterpret_cast<const sockaddr_in&>(peer);
    ::inet_ntop(AF_INET, &ip4.sin_addr, text.data(), text.size());
    client.host = text.data();
    client.name = fmt::format("{}:{}", client.host, ntohs(ip4.sin_port));
    client.address = address_of(ip4);
  } else if (peer.ss_family == AF_INET6) {
    const auto& ip6 = reinterpret_cast<const sockaddr_in6&>(peer);
    client.address = address_of(ip6);
    // A socket for both families, of a service manager, say, must not make two clients of one.
    const auto is_ip4 = client.address->is_ip4;
    ::inet_ntop(is_ip4 ? AF_INET : AF_INET6, client.address->bytes.data(), text.data(),
                text.size());
    client.host = text.data();
    client.name = is_ip4 ? fmt::format("{}:{}", client.host, ntohs(ip6.sin6_port))
                         : fmt::format("[{}]:{}", client.host, ntohs(ip6.sin6_port));
  } else if (peer.ss_family == AF_UNIX) {
    auto credentials = ucred{};
    length = sizeof credentials;
    if (::getsockopt(socket, SOL_SOCKET, SO_PEERCRED, &credentials, &length) != 0) return client;
    client.name = fmt::format("process {} of user {}", credentials.pid, credentials.uid);
    client.host = client.name;
    client.local = LocalProcess{.process = credentials.pid,
                                .user = credentials.uid,
                                .groups = groups_of(socket, credentials.gid)};
  } else if (peer.ss_family == AF_VSOCK) {
    const auto& vm = reinterpret_cast<const sockaddr_vm&>(peer);
    client.host = fmt::format("vsock {}", vm.svm_cid);
    client.name = fmt::format("{}:{}", client.host, vm.svm_port);
  }
  return client;
}

ClientIdentity identify_standard_input() {
  auto client = identify(STDIN_FILENO);
  if (client.address || client.local) return client;
  client = ClientIdentity{.name = "standard input", .host = "standard input"};
  client.local = LocalProcess{.process = ::getppid(), .user = ::getuid(), .groups = {::getgid()}};
  return client;
}

}  // namespace server
