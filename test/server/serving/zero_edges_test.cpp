#include "server/serving/zero_edges.h"

#include <catch2/catch.hpp>
#include <vector>

using server::find_zero_edges;

TEST_CASE("zeroes are found at both ends and nowhere else, cut at multiples of the unit") {
  struct Case {
    std::uint64_t offset;
    std::size_t size;
    std::vector<std::size_t> set;  // bytes that are not zero
    std::size_t leading;
    std::size_t trailing;
  };
  const auto cases = {
      Case{0, 16384, {}, 16384, 0},
      Case{0, 1, {}, 1, 0},
      Case{0, 1, {0}, 0, 0},
      Case{0, 16384, {0}, 0, 12288},
      Case{0, 16384, {16383}, 12288, 0},
      Case{0, 16384, {5000, 9000}, 4096, 4096},
      Case{0, 16384, {4096}, 4096, 8192},
      Case{0, 16384, {4095}, 0, 12288},
      Case{100, 16384, {8000}, 3996, 8292},
      Case{100, 3000, {2999}, 0, 0},
      Case{4000, 200, {150}, 96, 0},
      Case{4000, 200, {50}, 0, 104},
  };
  for (const auto& [offset, size, set, leading, trailing] : cases) {
    CAPTURE(offset, size, set);
    auto data = std::vector<std::byte>(size);
    for (const auto index : set) data[index] = std::byte{1};
    const auto edges = find_zero_edges(data, offset, 4096);
    CHECK(edges.leading == leading);
    CHECK(edges.trailing == trailing);
  }
}
