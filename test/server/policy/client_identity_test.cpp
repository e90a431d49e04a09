#include "server/policy/client_identity.h"

#include <netinet/in.h>
#include <sys/socket.h>

#include <catch2/catch.hpp>

#include "engine/file_descriptor.h"

using engine::FileDescriptor;

TEST_CASE("an IPv4 client of a socket for both families is the client it would be elsewhere") {
  const auto listener = FileDescriptor(::socket(AF_INET6, SOCK_STREAM | SOCK_CLOEXEC, 0));
  if (!listener) return;  // a machine without IPv6 has no such sockets
  constexpr auto off = 0;
  ::setsockopt(listener.get(), IPPROTO_IPV6, IPV6_V6ONLY, &off, sizeof off);
  auto any = sockaddr_in6{};
  any.sin6_family = AF_INET6;
  // The mapped form of 127.0.0.1: only this machine gets in.
  any.sin6_addr.s6_addr[10] = any.sin6_addr.s6_addr[11] = 0xff;
  any.sin6_addr.s6_addr[12] = 127;
  any.sin6_addr.s6_addr[15] = 1;
  auto length = socklen_t{sizeof any};
  auto* const address = reinterpret_cast<sockaddr*>(&any);
  if (::bind(listener.get(), address, length) != 0) return;
  REQUIRE(::listen(listener.get(), 1) == 0);
  REQUIRE(::getsockname(listener.get(), address, &length) == 0);
  const auto client = FileDescriptor(::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0));
  auto to = sockaddr_in{};
  to.sin_family = AF_INET;
  to.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  to.sin_port = any.sin6_port;
  REQUIRE(::connect(client.get(), reinterpret_cast<const sockaddr*>(&to), sizeof to) == 0);
  const auto accepted = FileDescriptor(::accept(listener.get(), nullptr, nullptr));
  const auto identity = server::identify(accepted.get());
  CHECK(identity.host == "127.0.0.1");
  CHECK(identity.name.rfind("127.0.0.1:", 0) == 0);
  CHECK(identity.address == server::parse_ip_address("127.0.0.1"));
}
