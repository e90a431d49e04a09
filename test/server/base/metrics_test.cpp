#include "server/base/metrics.h"

#include <catch2/catch.hpp>

using namespace server;
using namespace std::chrono_literals;

TEST_CASE("a duration is counted in the bucket whose end is the first one above it") {
  CHECK(duration_bucket(0ns) == 0);
  CHECK(duration_bucket(1023ns) == 0);
  for (auto index = std::size_t{0}; index + 1 < duration_bucket_count; ++index) {
    CAPTURE(index);
    CHECK(duration_bucket(duration_bucket_end(index) - 1ns) == index);
    CHECK(duration_bucket(duration_bucket_end(index)) == index + 1);
  }
  CHECK(duration_bucket(1h) == duration_bucket_count - 1);
  CHECK(duration_bucket(-1ns) == 0);
}

TEST_CASE("a duration counter keeps the count of each bucket and the exact sum") {
  auto counter = DurationCounter();
  counter.add(1ns);
  counter.add(3us);
  counter.add(3us);
  counter.add(1h);
  CHECK(counter.sum() == 1h + 6us + 1ns);
  CHECK(counter.buckets()[0].value() == 1);
  CHECK(counter.buckets()[duration_bucket(3us)].value() == 2);
  CHECK(counter.buckets().back().value() == 1);
}

TEST_CASE("commands without a name share the last place") {
  CHECK(command_index(proto::Command::block_status) == command_count - 2);
  CHECK(command_index(static_cast<proto::Command>(8)) == command_count - 1);
  CHECK(command_index(static_cast<proto::Command>(0xffff)) == command_count - 1);
}

TEST_CASE("an error is counted in the place of its kind") {
  auto metrics = CommandMetrics();
  for (const auto kind : error_kinds) metrics.add_error(kind);
  metrics.add_error(proto::Error::io);
  metrics.add_error(proto::Error::none);
  for (auto index = std::size_t{0}; index < error_kinds.size(); ++index)
    CHECK(metrics.errors[index].value() == (error_kinds[index] == proto::Error::io ? 2 : 1));
}
