#include "server/config/parse_size.h"

#include <catch2/catch.hpp>

#include "server/base/user_error.h"

using server::parse_size;
using server::UserError;

TEST_CASE("sizes are bytes with binary suffixes") {
  CHECK(parse_size("0") == 0);
  CHECK(parse_size("512") == 512);
  CHECK(parse_size("64K") == 65536);
  CHECK(parse_size("64k") == 65536);
  CHECK(parse_size("1M") == 1U << 20);
  CHECK(parse_size("10G") == 10ULL << 30);
  CHECK(parse_size("3T") == 3ULL << 40);
  for (const auto* const text :
       {"", "K", "-1", "1.5G", "1KB", "1 K", "9P1", "99999999999999999999", "8192P"}) {
    CAPTURE(text);
    CHECK_THROWS_AS(parse_size(text), UserError);
  }
}
