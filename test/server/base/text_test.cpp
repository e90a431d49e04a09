#include "server/base/text.h"

#include <catch2/catch.hpp>
#include <vector>

using namespace std::chrono_literals;

TEST_CASE("sizes are shown in the largest unit that they fill") {
  CHECK(server::format_size(0.0) == "0 B");
  CHECK(server::format_size(1023.0) == "1023 B");
  CHECK(server::format_size(1024.0) == "1 KiB");
  CHECK(server::format_size(1536.0) == "1.5 KiB");
  CHECK(server::format_size(std::uint64_t{64} << 20) == "64 MiB");
  CHECK(server::format_size(12.25) == "12.25 B");
  CHECK(server::format_size(0x1p60) == "1 EiB");
  CHECK(server::format_size(0x1p64) == "16 EiB");
}

TEST_CASE("one thing is singular") {
  CHECK(server::plural(0, "worker") == "0 workers");
  CHECK(server::plural(1, "worker") == "1 worker");
  CHECK(server::plural(1234567, "worker") == "1234567 workers");
}

TEST_CASE("words are joined, and none of them are said to be none") {
  CHECK(server::joined({}) == "none");
  CHECK(server::joined(std::vector<std::string>{"a"}) == "a");
  CHECK(server::joined(std::vector<std::string>{"a", "b"}) == "a, b");
}

TEST_CASE("durations are numbers of their unit") {
  CHECK(server::seconds_of(1500ms) == 1.5);
  CHECK(server::milliseconds_of(1500us) == 1.5);
  CHECK(server::microseconds_of(1500ns) == 1.5);
}
