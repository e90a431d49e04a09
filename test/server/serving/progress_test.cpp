#include "server/serving/progress.h"

#include <catch2/catch.hpp>

using server::Progress;
using namespace std::chrono_literals;

TEST_CASE("a client is too slow when less moves than would empty what is held in a minute") {
  constexpr auto held = std::size_t{600} << 10;
  CHECK(Progress{.held = held, .moved = 0}.too_slow(5s));
  CHECK(Progress{.held = held, .moved = 49U << 10}.too_slow(5s));
  CHECK_FALSE(Progress{.held = held, .moved = 50U << 10}.too_slow(5s));
  CHECK(Progress{.held = held, .moved = 50U << 10}.too_slow(6s));
  CHECK(Progress{.held = 4096, .moved = 2}.too_slow(5s));
}

TEST_CASE("a client that moves enough is never too slow, however much is held") {
  CHECK_FALSE(Progress{.held = 1U << 30, .moved = 5 * Progress::rate_enough}.too_slow(5s));
  CHECK(Progress{.held = 1U << 30, .moved = 5 * Progress::rate_enough - 1}.too_slow(5s));
}

TEST_CASE("a client for which nothing is held is not too slow") {
  CHECK_FALSE(Progress{.held = 0, .moved = 0}.too_slow(5s));
}

TEST_CASE("the slower client is the one that has moved less of what is held") {
  const auto little_of_much = Progress{.held = 1U << 20, .moved = 100};
  const auto little_of_little = Progress{.held = 4096, .moved = 100};
  CHECK(little_of_much.slower_than(little_of_little));
  CHECK_FALSE(little_of_little.slower_than(little_of_much));
  const auto nothing_of_much = Progress{.held = 1U << 20, .moved = 0};
  const auto nothing_of_little = Progress{.held = 4096, .moved = 0};
  CHECK(nothing_of_little.slower_than(little_of_much));
  CHECK(nothing_of_much.slower_than(nothing_of_little));
  CHECK_FALSE(nothing_of_much.slower_than(nothing_of_much));
}

TEST_CASE("progress is what a client has given, and taken out of its socket") {
  auto meter = server::ProgressMeter();
  auto unsent = std::uint64_t{0};
  const auto ask = [&unsent] { return unsent; };
  meter.count(5000);
  unsent = 3000;
  meter.begin(1U << 20, ask);
  CHECK(meter.progress(1U << 20, ask).moved == 0);
  // Bytes that the kernel takes are not yet taken by the client.
  meter.count(1000);
  unsent = 4000;
  CHECK(meter.progress(1U << 20, ask).moved == 0);
  unsent = 1500;
  CHECK(meter.progress(1U << 20, ask).moved == 2500);
  // Sizes of the kernel's are estimates.
  unsent = 1U << 30;
  CHECK(meter.progress(1U << 20, ask).moved == 0);
}

TEST_CASE("only what is held all the time counts") {
  auto meter = server::ProgressMeter();
  const auto none = [] { return std::uint64_t{0}; };
  meter.begin(0, none);
  CHECK(meter.progress(4096, none).held == 0);
  meter.begin(8192, none);
  CHECK(meter.progress(4096, none).held == 4096);
}
