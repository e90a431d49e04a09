#include "test/bench/workload.h"

#include <set>
#include <stdexcept>

#include <catch2/catch.hpp>

using bench::AccessPattern;
using bench::Workload;
using bench::WorkloadOptions;
using proto::Command;

TEST_CASE("random requests stay inside their range and reach all of it") {
  const WorkloadOptions options{
      .mix = {{Command::read, 4096, 1}}, .range_offset = 1U << 20, .range_length = 64U << 10};
  Workload workload(options, 1, 0, 1);
  std::set<std::uint64_t> offsets;
  for (int i = 0; i < 2000; ++i) {
    const auto request = workload.next();
    REQUIRE(request.offset >= 1U << 20);
    REQUIRE(request.offset + request.length <= (1U << 20) + (64U << 10));
    REQUIRE(request.length == 4096);
    offsets.insert(request.offset);
  }
  CHECK(offsets.size() == 16);
}

TEST_CASE("the same seed gives the same requests and another seed others") {
  const WorkloadOptions options{.mix = {{Command::read, 4096, 1}}, .range_length = 1U << 30};
  Workload first(options, 5, 0, 1);
  Workload again(options, 5, 0, 1);
  Workload other(options, 6, 0, 1);
  int differences = 0;
  for (int i = 0; i < 100; ++i) {
    const auto request = first.next();
    REQUIRE(request.offset == again.next().offset);
    differences += request.offset != other.next().offset ? 1 : 0;
  }
  CHECK(differences > 90);
}

TEST_CASE("sequential connections begin at their shares and wrap at the end of the range") {
  const WorkloadOptions options{.mix = {{Command::write, 4096, 1}},
                                .access_pattern = AccessPattern::sequential,
                                .range_length = 8 * 4096};
  Workload second(options, 1, 1, 2);
  for (const std::uint64_t block : {4U, 5U, 6U, 7U, 0U, 1U})
    CHECK(second.next().offset == block * 4096);
}

TEST_CASE("a mix follows its weights, and FUA goes on what changes the export") {
  const WorkloadOptions options{.mix = bench::parse_mix("write:1M:6,trim:1G:3,flush:0:1,read:4k:0"),
                                .fua = true,
                                .range_length = 2ULL << 30};
  Workload workload(options, 1, 0, 1);
  std::uint64_t counts[8] = {};
  for (int i = 0; i < 10'000; ++i) {
    const auto request = workload.next();
    ++counts[static_cast<std::size_t>(request.command)];
    REQUIRE(request.flags ==
            proto::command_flag::fua * (request.command == Command::flush ? 0 : 1));
    REQUIRE(request.offset + request.length <= 2ULL << 30);
  }
  CHECK(counts[static_cast<std::size_t>(Command::write)] == Approx(6000).epsilon(0.05));
  CHECK(counts[static_cast<std::size_t>(Command::trim)] == Approx(3000).epsilon(0.1));
  CHECK(counts[static_cast<std::size_t>(Command::flush)] == Approx(1000).epsilon(0.15));
  CHECK(counts[static_cast<std::size_t>(Command::read)] == 0);
}

TEST_CASE("a request that does not fit into the range is refused at the start") {
  const WorkloadOptions options{.mix = {{Command::read, 4096, 1}}, .range_length = 4095};
  CHECK_THROWS_AS(Workload(options, 1, 0, 1), std::invalid_argument);
}

TEST_CASE("sizes have units of 1024") {
  CHECK(bench::parse_size("0") == 0);
  CHECK(bench::parse_size("4096") == 4096);
  CHECK(bench::parse_size("4k") == 4096);
  CHECK(bench::parse_size("1M") == 1U << 20);
  CHECK(bench::parse_size("2G") == 2ULL << 30);
  for (const char* wrong : {"", "k", "-1", "4kk", "4x", "99999999999G", "1 M"}) {
    CAPTURE(wrong);
    CHECK_THROWS_AS(bench::parse_size(wrong), std::invalid_argument);
  }
}

TEST_CASE("a malformed mix is refused") {
  for (const char* wrong :
       {"write", "write:4k", "erase:4k:1", "write:0:1", "flush:4k:1", "write:4k:1,,", ","}) {
    CAPTURE(wrong);
    CHECK_THROWS_AS(bench::parse_mix(wrong), std::invalid_argument);
  }
}
