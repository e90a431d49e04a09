#include "server/writer_leases.h"

#include <catch2/catch.hpp>
#include <thread>
#include <vector>

using server::WriterLease;
using server::WriterLeases;

TEST_CASE("one host writes with as many connections as it likes, and others do not") {
  const auto leases = std::make_shared<WriterLeases>(1);
  CHECK(leases->available_to("a"));
  auto first = leases->take("a");
  auto second = leases->take("a");
  CHECK(first);
  CHECK(second);
  CHECK(leases->available_to("a"));
  CHECK_FALSE(leases->available_to("b"));
  CHECK_FALSE(leases->take("b"));
  CHECK(leases->holders() == "a");
  first.release();
  CHECK_FALSE(leases->take("b"));
  second = {};
  auto other = leases->take("b");
  CHECK(other);
  CHECK(leases->holders() == "b");
  CHECK_FALSE(leases->take("a"));
}

TEST_CASE("a lease is given back once, whatever became of it") {
  const auto leases = std::make_shared<WriterLeases>(1);
  {
    auto lease = leases->take("a");
    auto moved = std::move(lease);
    CHECK(moved);
    moved.release();
    moved.release();
    CHECK_FALSE(moved);
    lease = leases->take("b");
    CHECK(lease);
    moved = std::move(lease);
    lease.release();
    CHECK_FALSE(leases->available_to("a"));
  }
  CHECK(leases->available_to("a"));
  CHECK(leases->holders().empty());
}

TEST_CASE("without a bound everybody writes, and is known all the same") {
  const auto leases = std::make_shared<WriterLeases>(0);
  auto held = std::vector<WriterLease>{};
  for (const auto* const host : {"a", "b", "c"}) held.push_back(leases->take(host));
  for (const auto& lease : held) CHECK(lease);
  CHECK(leases->holders() == "a, b, c");
}

TEST_CASE("threads that compete for two leases never hold more, and leave none behind") {
  const auto leases = std::make_shared<WriterLeases>(2);
  auto writing = std::atomic<int>{0};
  auto most = std::atomic<int>{0};
  auto threads = std::vector<std::thread>{};
  for (const auto* const host : {"a", "b", "c", "d"})
    threads.emplace_back([&, host] {
      for (auto round = 0; round < 2000; ++round) {
        auto lease = leases->take(host);
        if (!lease) continue;
        const auto now = writing.fetch_add(1) + 1;
        if (now > most.load()) most.store(now);
        writing.fetch_sub(1);
      }
    });
  for (auto& thread : threads) thread.join();
  CHECK(most <= 2);
  CHECK(leases->holders().empty());
}
