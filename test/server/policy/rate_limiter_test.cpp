#include "server/policy/rate_limiter.h"

#include <algorithm>
#include <catch2/catch.hpp>
#include <thread>
#include <vector>

using server::ExportLimiter;
using server::RateLimiter;
using server::TokenBucket;
using namespace std::chrono_literals;

namespace {

const auto start = TokenBucket::Time(1000h);

}  // namespace

TEST_CASE("a bucket without a limit lets everything begin at once") {
  auto bucket = TokenBucket();
  for (auto count = 0; count < 1000; ++count) CHECK(bucket.take(1U << 30, start) == start);
}

TEST_CASE("requests begin at the rate of the bucket") {
  auto bucket = TokenBucket();
  bucket.set(100, 0);
  for (auto count = 0; count < 50; ++count) CHECK(bucket.take(1, start) == start + count * 10ms);
}

TEST_CASE("a burst begins at once and is made up for") {
  auto bucket = TokenBucket();
  bucket.set(100, 0.1);
  for (auto count = 0; count <= 10; ++count) CHECK(bucket.take(1, start) == start);
  CHECK(bucket.take(1, start) == start + 10ms);
  CHECK(bucket.take(1, start) == start + 20ms);
}

TEST_CASE("what is not used is saved up to the burst and no further") {
  auto bucket = TokenBucket();
  bucket.set(100, 0.1);
  bucket.take(1, start);
  const auto later = start + 1h;
  for (auto count = 0; count <= 10; ++count) CHECK(bucket.take(1, later) == later);
  CHECK(bucket.take(1, later) == later + 10ms);
}

TEST_CASE("a large request begins at once, and the next one waits for it") {
  auto bucket = TokenBucket();
  bucket.set(1U << 20, 0);
  CHECK(bucket.take(32U << 20, start) == start);
  CHECK(bucket.take(1, start) == start + 32s);
}

TEST_CASE("a new limit forgets the debts under the old one") {
  auto bucket = TokenBucket();
  bucket.set(1, 0);
  for (auto count = 0; count < 100; ++count) bucket.take(1, start);
  bucket.set(1000, 0);
  CHECK(bucket.take(1, start) == start);
}

TEST_CASE("an absurd price does not overflow") {
  auto bucket = TokenBucket();
  bucket.set(1, 0);
  for (auto count = 0; count < 1000; ++count)
    CHECK(bucket.take(UINT64_MAX, start) >= start + count * 1h);
}

TEST_CASE("threads that share a bucket together get its rate, none of it twice") {
  auto bucket = TokenBucket();
  bucket.set(1000, 0);
  auto begins = std::vector<std::vector<TokenBucket::Time>>(4);
  {
    auto threads = std::vector<std::thread>{};
    for (auto& mine : begins)
      threads.emplace_back([&bucket, &mine] {
        for (auto count = 0; count < 1000; ++count) mine.push_back(bucket.take(1, start));
      });
    for (auto& thread : threads) thread.join();
  }
  auto all = std::vector<TokenBucket::Time>{};
  for (const auto& mine : begins) all.insert(all.end(), mine.begin(), mine.end());
  std::sort(all.begin(), all.end());
  for (auto index = 0; index < 4000; ++index)
    REQUIRE(all[static_cast<std::size_t>(index)] == start + index * 1ms);
}

TEST_CASE("the stricter of two limits holds") {
  auto limiter = RateLimiter();
  limiter.set({.read_iops = 10, .read_bytes = 1000, .burst_seconds = 0});
  CHECK(limiter.any());
  CHECK(limiter.take_read(1000, start) == start);
  CHECK(limiter.take_read(1, start) == start + 1s);
  CHECK(limiter.take_write(1U << 30, start) == start);
}

TEST_CASE("connections of one client share its limits, and those of another do not") {
  auto limiter = ExportLimiter({}, {.write_iops = 1, .burst_seconds = 0});
  const auto first = limiter.for_client("10.0.0.1");
  CHECK(first == limiter.for_client("10.0.0.1"));
  const auto other = limiter.for_client("10.0.0.2");
  CHECK(first->take_write(1, start) == start);
  CHECK(first->take_write(1, start) == start + 1s);
  CHECK(other->take_write(1, start) == start);
}

TEST_CASE("limits are changed for clients that are there") {
  auto limiter = ExportLimiter({}, {});
  const auto client = limiter.for_client("10.0.0.1");
  CHECK_FALSE(client->any());
  limiter.set({}, {.read_iops = 1});
  CHECK(client->any());
  limiter.set({}, {});
  CHECK_FALSE(client->any());
}

TEST_CASE("a bucket in debt for centuries does not overflow") {
  auto bucket = TokenBucket();
  bucket.set(1, 0);
  for (auto count = 0; count < 3'000'000; ++count) bucket.take(UINT64_MAX, start);
  CHECK(bucket.take(1, start) > start + 24h * 365 * 100);
}

TEST_CASE("what is given back lets the next request begin, and is no credit") {
  auto bucket = TokenBucket();
  bucket.set(10, 0);
  bucket.take(1000, start);
  CHECK(bucket.take(10, start) == start + 100s);
  bucket.give_back(10);
  bucket.give_back(1000);
  CHECK(bucket.take(1, start + 1s) == start + 1s);
  bucket.give_back(1000);
  CHECK(bucket.take(1, start + 1s) == start + 1s);
  CHECK(bucket.take(1, start + 1s) == start + 1100ms);
}

TEST_CASE("the limit of a client that comes back is the one it had, however many came meanwhile") {
  auto limiter = ExportLimiter({}, {.read_iops = 1, .burst_seconds = 0});
  const auto first = limiter.for_client("first");
  for (auto index = 0; index < 1000; ++index) limiter.for_client(std::to_string(index));
  CHECK(limiter.for_client("first") == first);
}
