#include "test/bench/content.h"

#include <algorithm>
#include <vector>

#include <catch2/catch.hpp>

using bench::Content;

namespace {

std::vector<std::byte> copy(std::span<const std::byte> bytes) {
  return {bytes.begin(), bytes.end()};
}

}  // namespace

TEST_CASE("the contents of a range do not depend on how it is cut into requests") {
  const Content content(1, 64 << 10);
  const std::uint64_t begin = Content::period * 3 - 1000;
  const auto whole = copy(content.at(begin, 64 << 10));
  for (const std::size_t step : {1U, 7U, 512U, 4096U}) {
    std::vector<std::byte> pieces;
    while (pieces.size() < whole.size()) {
      const std::size_t length = std::min(step, whole.size() - pieces.size());
      const auto piece = content.at(begin + pieces.size(), length);
      pieces.insert(pieces.end(), piece.begin(), piece.end());
    }
    CHECK(pieces == whole);
  }
}

TEST_CASE("the table serves spans longer than the period") {
  const std::size_t length = Content::period * 2 + 100;
  const Content content(1, length);
  const auto bytes = content.at(5, length);
  CHECK(std::equal(bytes.begin(), bytes.begin() + 1000, bytes.begin() + Content::period));
  CHECK(std::equal(bytes.end() - 1000, bytes.end(), bytes.end() - 1000 - Content::period));
}

TEST_CASE("any single wrong byte is found where it is") {
  const Content content(1, 4096);
  const std::uint64_t offset = 123 * 4096;
  const auto good = copy(content.at(offset, 4096));
  CHECK_FALSE(content.mismatch(offset, good));
  for (std::size_t index = 0; index < good.size(); ++index) {
    auto bad = good;
    bad[index] ^= std::byte{1};
    REQUIRE(content.mismatch(offset, bad) == index);
  }
}

TEST_CASE("blocks from a wrong offset do not pass") {
  const Content content(1, 4096);
  const auto block = copy(content.at(0, 4096));
  for (std::uint64_t offset = 4096; offset < 512ULL << 20; offset += 4096) {
    REQUIRE(content.mismatch(offset, block).has_value());
  }
}

TEST_CASE("contents of another seed, and zeroes, do not pass") {
  const Content content(1, 4096);
  const Content other(2, 4096);
  CHECK(content.mismatch(0, other.at(0, 4096)).has_value());
  CHECK(content.mismatch(0, std::vector<std::byte>(16)).has_value());
}
