#include "server/attach/remote_address.h"

#include <catch2/catch.hpp>
#include <string>
#include <tuple>

#include "server/base/user_error.h"

using server::parse_remote_address;

TEST_CASE("addresses of exports are taken apart") {
  using Row = std::tuple<const char*, const char*, const char*, const char*, const char*>;
  const auto [text, host, port, name, canonical] = GENERATE(values<Row>({
      {"nbd://host/disk", "host", "10809", "disk", "nbd://host:10809/disk"},
      {"nbd://host:7/a%20b", "host", "7", "a b", "nbd://host:7/a%20b"},
      {"nbd://host", "host", "10809", "", "nbd://host:10809/"},
      {"nbd://host/", "host", "10809", "", "nbd://host:10809/"},
      {"nbd://192.0.2.1:7/d/e", "192.0.2.1", "7", "d/e", "nbd://192.0.2.1:7/d/e"},
      {"nbd://[::1]:7/d", "::1", "7", "d", "nbd://[::1]:7/d"},
      {"nbd://[fe80::1]/d", "fe80::1", "10809", "d", "nbd://[fe80::1]:10809/d"},
  }));
  CAPTURE(text);
  const auto address = parse_remote_address(text);
  REQUIRE(address);
  CHECK(address->host == host);
  CHECK(address->port == port);
  CHECK(address->export_name == name);
  CHECK(address->socket_path.empty());
  CHECK(address->canonical() == canonical);
}

TEST_CASE("addresses of Unix sockets are taken apart") {
  const auto address = parse_remote_address("nbd+unix:///disk?socket=%2Frun/a%26b.sock");
  REQUIRE(address);
  CHECK(address->socket_path == "/run/a&b.sock");
  CHECK(address->export_name == "disk");
  CHECK(address->host.empty());
  CHECK(address->canonical() == "nbd+unix:///disk?socket=/run/a%26b.sock");
  CHECK(parse_remote_address("nbd+unix:///?socket=/s")->export_name.empty());
}

TEST_CASE("paths of files are no addresses") {
  for (const auto* const path : {"disk.img", "/srv/disk.img", "./nbd://host", "a:b", "nbd:host"})
    CHECK_FALSE(parse_remote_address(path));
}

TEST_CASE("what looks like an address and is none is refused with the reason") {
  using Row = std::tuple<const char*, const char*>;
  const auto [text, reason] = GENERATE(values<Row>({
      {"nbds://host/d", "TLS"},
      {"http://host/d", "unknown scheme"},
      {"nbd:///d", "host is missing"},
      {"nbd://host:/d", "port"},
      {"nbd://host:0/d", "port"},
      {"nbd://host:65536/d", "port"},
      {"nbd://host:7x/d", "port"},
      {"nbd://[::1/d", "bracket"},
      {"nbd://[::1]7/d", "port"},
      {"nbd://host/%4", "hexadecimal"},
      {"nbd://host/%zz", "hexadecimal"},
      {"nbd://host/%00", "no string"},
      {"nbd://host/d?socket=/s", "no parameters"},
      {"nbd+unix:///d", "socket is missing"},
      {"nbd+unix:///d?socket=", "socket is missing"},
      {"nbd+unix:///d?tls=no", "unknown parameter"},
      {"nbd+unix://host/d?socket=/s", "no host"},
  }));
  CAPTURE(text);
  CHECK_THROWS_AS(parse_remote_address(text), server::UserError);
  CHECK_THROWS_WITH(parse_remote_address(text), Catch::Contains(reason));
}
