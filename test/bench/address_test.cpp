#include "test/bench/address.h"

#include <stdexcept>

#include <catch2/catch.hpp>

using bench::parse_address;

TEST_CASE("each notation of an address is understood") {
  struct Case {
    const char* text;
    bench::Address expected;
  };
  const Case cases[] = {
      {"unix:/run/x.sock", {"/run/x.sock", "", "", ""}},
      {"localhost:10810", {"", "localhost", "10810", ""}},
      {"localhost", {"", "localhost", "10809", ""}},
      {"[::1]:5", {"", "::1", "5", ""}},
      {"[::1]", {"", "::1", "10809", ""}},
      {"nbd://127.0.0.1:7/disk", {"", "127.0.0.1", "7", "disk"}},
      {"nbd://[::1]/a%20b", {"", "::1", "10809", "a b"}},
      {"nbd://host", {"", "host", "10809", ""}},
      {"nbd+unix:///disk?socket=/run/x%2Fy", {"/run/x/y", "", "", "disk"}},
      {"nbd+unix:///?socket=/run/x", {"/run/x", "", "", ""}},
  };
  for (const auto& [text, expected] : cases) {
    CAPTURE(text);
    const auto address = parse_address(text);
    CHECK(address.socket_path == expected.socket_path);
    CHECK(address.host == expected.host);
    CHECK(address.port == expected.port);
    CHECK(address.export_name == expected.export_name);
  }
}

TEST_CASE("what is no address is refused") {
  for (const char* wrong : {"", "unix:", "host:", ":5", "[::1", "[::1]5", "nbd+unix:///disk",
                            "nbd://h/%2", "nbd://h/%zz"}) {
    CAPTURE(wrong);
    CHECK_THROWS_AS(parse_address(wrong), std::invalid_argument);
  }
}
