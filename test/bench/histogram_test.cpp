#include "test/bench/histogram.h"

#include <catch2/catch.hpp>

#include "test/bench/random.h"

using bench::Histogram;

TEST_CASE("every value lies in its bucket, and buckets follow each other without gaps") {
  for (std::size_t index = 0; index + 1 < Histogram::bucket_count; ++index) {
    const std::uint64_t end = Histogram::bucket_end(index);
    INFO("bucket " << index << " ends at " << end);
    REQUIRE(Histogram::bucket(end) == index);
    REQUIRE(Histogram::bucket(end + 1) == index + 1);
  }
}

TEST_CASE("a bucket is narrower than a 64th of the values in it") {
  bench::Random random(7);
  for (int i = 0; i < 100'000; ++i) {
    const std::uint64_t value = random.next() >> (24 + random.below(40));
    const std::uint64_t end = Histogram::bucket_end(Histogram::bucket(value));
    REQUIRE(end >= value);
    REQUIRE(end - value <= value / 64);
  }
}

TEST_CASE("percentiles of an even spread of latencies are where they belong") {
  Histogram histogram;
  for (std::uint64_t value = 1; value <= 100'000; ++value) histogram.record(value);
  CHECK(histogram.count() == 100'000);
  CHECK(histogram.max() == 100'000);
  CHECK(histogram.mean() == Approx(50'000.5));
  CHECK(static_cast<double>(histogram.percentile(0.5)) == Approx(50'000).epsilon(1.0 / 64));
  CHECK(static_cast<double>(histogram.percentile(0.99)) == Approx(99'000).epsilon(1.0 / 64));
  CHECK(histogram.percentile(0.999) >= 99'900);
  CHECK(histogram.percentile(1) == 100'000);
}

TEST_CASE("one slow request in a thousand shows in p99.9 only from the second thousandth on") {
  Histogram histogram;
  for (int i = 0; i < 998; ++i) histogram.record(10);
  histogram.record(1'000'000);
  CHECK(histogram.percentile(0.99) == 10);
  CHECK(histogram.percentile(0.999) == 1'000'000);
  for (int i = 0; i < 1'000; ++i) histogram.record(10);
  CHECK(histogram.percentile(0.999) == 10);
  CHECK(histogram.max() == 1'000'000);
}

TEST_CASE("an empty histogram says zero") {
  const Histogram histogram;
  CHECK(histogram.count() == 0);
  CHECK(histogram.percentile(0.999) == 0);
  CHECK(histogram.mean() == 0);
}

TEST_CASE("a latency beyond the range keeps its maximum") {
  Histogram histogram;
  const std::uint64_t hour = 3'600'000'000'000;
  histogram.record(hour);
  CHECK(histogram.percentile(0.5) == hour);
  CHECK(histogram.max() == hour);
}

TEST_CASE("merged histograms are the histogram of all values") {
  Histogram all;
  Histogram even;
  Histogram odd;
  for (std::uint64_t value = 0; value < 10'000; ++value) {
    all.record(value * value);
    (value % 2 == 0 ? even : odd).record(value * value);
  }
  even.merge(odd);
  CHECK(even.count() == all.count());
  CHECK(even.mean() == all.mean());
  CHECK(even.max() == all.max());
  for (const double fraction : {0.001, 0.1, 0.5, 0.9, 0.999, 1.0}) {
    CHECK(even.percentile(fraction) == all.percentile(fraction));
  }
}
