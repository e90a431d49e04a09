#include "engine/rounding.h"

#include <catch2/catch.hpp>

TEST_CASE("values are rounded to whole units") {
  CHECK(engine::round_down(0, 512) == 0);
  CHECK(engine::round_down(511, 512) == 0);
  CHECK(engine::round_down(512, 512) == 512);
  CHECK(engine::round_up(0, 512) == 0);
  CHECK(engine::round_up(1, 512) == 512);
  CHECK(engine::round_up(512, 512) == 512);
  CHECK(engine::round_up(513, 1) == 513);
  CHECK(engine::round_down((std::uint64_t{1} << 63) + 5, 4096) == std::uint64_t{1} << 63);
}
