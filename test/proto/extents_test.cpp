// fit_extents() of proto/reply.h.
#include <catch2/catch.hpp>
#include <limits>
#include <random>
#include <string>
#include <vector>

#include "proto/reply.h"

using proto::fit_extents;
using proto::HeaderStyle;
using proto::StatusExtent;
using Extents = std::vector<StatusExtent>;

namespace {

constexpr std::uint64_t gib = std::uint64_t{1} << 30;
constexpr std::uint64_t largest = std::numeric_limits<std::uint64_t>::max();
constexpr HeaderStyle chunk_styles[] = {HeaderStyle::structured, HeaderStyle::extended};

// "length:flags length:flags ..." of what remains.
std::string fitted(Extents extents, HeaderStyle style, std::uint64_t request_length,
                   bool req_one = false) {
  const auto count = fit_extents(extents, style, request_length, req_one);
  REQUIRE(count <= extents.size());
  std::string text;
  for (std::size_t i = 0; i < count; ++i) {
    text += (i > 0 ? " " : "") + std::to_string(extents[i].length) + ":" +
            std::to_string(extents[i].flags);
  }
  return text;
}

}  // namespace

TEST_CASE("extents that obey the rules stay as they are") {
  for (const auto style : chunk_styles) {
    CHECK(fitted({{512, 0}, {1024, 3}, {512, 0}}, style, 2048) == "512:0 1024:3 512:0");
    CHECK(fitted({}, style, 2048).empty());
  }
}

TEST_CASE("neighbours with equal flags become one extent, and empty ones disappear") {
  for (const auto style : chunk_styles) {
    CHECK(fitted({{512, 0}, {512, 0}, {512, 3}, {512, 3}, {512, 0}}, style, 4096) ==
          "1024:0 1024:3 512:0");
    CHECK(fitted({{0, 3}, {512, 0}, {0, 3}, {512, 0}, {0, 1}}, style, 4096) == "1024:0");
    CHECK(fitted({{0, 3}, {0, 0}}, style, 4096).empty());
  }
}

TEST_CASE("all extents but the last sum to less than the request") {
  for (const auto style : chunk_styles) {
    CHECK(fitted({{512, 0}, {512, 3}, {512, 0}}, style, 1024) == "512:0 512:3");
    CHECK(fitted({{512, 0}, {512, 3}, {512, 0}}, style, 1025) == "512:0 512:3 512:0");
    CHECK(fitted({{512, 0}, {512, 3}}, style, 512) == "512:0");
    CHECK(fitted({{512, 0}, {512, 3}}, style, 1) == "512:0");
    CHECK(fitted({{512, 0}, {512, 0}, {512, 3}}, style, 1024) == "1024:0");
  }
}

TEST_CASE("REQ_ONE gives exactly one extent within the request") {
  for (const auto style : chunk_styles) {
    CHECK(fitted({{512, 0}, {1024, 3}}, style, 4096, true) == "512:0");
    CHECK(fitted({{8192, 3}, {1024, 0}}, style, 4096, true) == "4096:3");
    CHECK(fitted({{512, 1}, {512, 1}, {512, 0}}, style, 4096, true) == "1024:1");
    CHECK(fitted({{largest, 3}}, style, 0xffffffff, true) == "4294967295:3");
  }
}

TEST_CASE(
    "lengths next to 2^32 are clamped in compact replies, and nothing follows a clamped one") {
  const std::uint64_t clamped = 4 * gib - 65536;
  const auto text = std::to_string(clamped) + ":0";
  const auto style = HeaderStyle::structured;
  CHECK(fitted({{4 * gib - 1, 0}}, style, 0xffffffff) == "4294967295:0");
  CHECK(fitted({{4 * gib, 0}}, style, 0xffffffff) == text);
  CHECK(fitted({{4 * gib + 1, 0}}, style, 0xffffffff) == text);
  CHECK(fitted({{4 * gib, 0}, {512, 3}}, style, 0xffffffff) == text);
  CHECK(fitted({{2 * gib, 0}, {2 * gib, 0}, {512, 3}}, style, 0xffffffff) == text);
  CHECK(fitted({{largest, 0}, {512, 3}}, style, 0xffffffff) == text);
  CHECK(fitted({{512, 3}, {100 * gib, 0}}, style, 0xffffffff) == "512:3 " + text);
}

TEST_CASE("extended replies keep 64-bit lengths") {
  CHECK(fitted({{4 * gib, 0}, {100 * gib, 3}}, HeaderStyle::extended, 200 * gib) ==
        "4294967296:0 107374182400:3");
}

TEST_CASE("sums that would wrap 64 bits end the list instead") {
  CHECK(fitted({{largest, 0}, {largest, 0}}, HeaderStyle::extended, largest) ==
        std::to_string(largest) + ":0");
  CHECK(fitted({{largest - 1, 0}, {largest, 3}, {512, 0}}, HeaderStyle::extended, largest) ==
        std::to_string(largest - 1) + ":0 " + std::to_string(largest) + ":3");
}

TEST_CASE("no more extents than one chunk may have") {
  Extents extents;
  for (std::size_t i = 0; i < proto::status_extent_count_max + 10; ++i)
    extents.push_back({512, i % 2 == 0 ? 0U : 3U});
  CHECK(fit_extents(extents, HeaderStyle::extended, largest, false) ==
        proto::status_extent_count_max);
}

TEST_CASE("fitting what has been fitted changes nothing") {
  std::mt19937 random(7);
  for (int round = 0; round < 2000; ++round) {
    Extents extents;
    for (auto count = random() % 8; count > 0; --count) {
      const auto shift = random() % 64;
      extents.push_back({(std::uint64_t{random()} << 32 | random()) >> shift,
                         static_cast<std::uint32_t>(random() % 4)});
    }
    const auto style = chunk_styles[random() % 2];
    const std::uint64_t request_length = 1 + (std::uint64_t{random()} << (random() % 20));
    const bool req_one = random() % 4 == 0;

    const auto count = fit_extents(extents, style, request_length, req_one);
    auto again = Extents(extents.begin(), extents.begin() + static_cast<std::ptrdiff_t>(count));
    CAPTURE(round);
    REQUIRE(fit_extents(again, style, request_length, req_one) == count);
    for (std::size_t i = 0; i < count; ++i) {
      CHECK(again[i].length == extents[i].length);
      CHECK(again[i].flags == extents[i].flags);
    }
  }
}
