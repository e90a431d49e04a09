#include "server/policy/writer_leases.h"

#include <catch2/catch.hpp>
#include <thread>
#include <vector>

using server::WriterLease;
using server::WriterLeases;

TEST_CASE("one host writes with as many connections as it likes, and others do not") {
  const auto leases = std::make_shared<WriterLeases>();
  CHECK(leases->available_to("a", 1));
  auto first = leases->take("a", 1);
  auto second = leases->take("a", 1);
  CHECK(first);
  CHECK(second);
  CHECK(leases->available_to("a", 1));
  CHECK_FALSE(leases->available_to("b", 1));
  CHECK_FALSE(leases->take("b", 1));
  CHECK(leases->holders() == "a");
  first.release();
  CHECK_FALSE(leases->take("b", 1));
  second = {};
  auto other = leases->take("b", 1);
  CHECK(other);
  CHECK(leases->holders() == "b");
  CHECK_FALSE(leases->take("a", 1));
}

TEST_CASE("a lease is given back once, whatever became of it") {
  const auto leases = std::make_shared<WriterLeases>();
  {
    auto lease = leases->take("a", 1);
    auto moved = std::move(lease);
    CHECK(moved);
    moved.release();
    moved.release();
    CHECK_FALSE(moved);
    lease = leases->take("b", 1);
    CHECK(lease);
    moved = std::move(lease);
    lease.release();
    CHECK_FALSE(leases->available_to("a", 1));
  }
  CHECK(leases->available_to("a", 1));
  CHECK(leases->holders().empty());
}

TEST_CASE("without a bound everybody writes, and is known all the same") {
  const auto leases = std::make_shared<WriterLeases>();
  auto held = std::vector<WriterLease>{};
  for (const auto* const host : {"a", "b", "c"}) held.push_back(leases->take(host, 0));
  for (const auto& lease : held) CHECK(lease);
  CHECK(leases->holders() == "a, b, c");
}

TEST_CASE("threads that compete for two leases never hold more, and leave none behind") {
  const auto leases = std::make_shared<WriterLeases>();
  auto writing = std::atomic<int>{0};
  auto most = std::atomic<int>{0};
  auto threads = std::vector<std::thread>{};
  for (const auto* const host : {"a", "b", "c", "d"})
    threads.emplace_back([&, host] {
      for (auto round = 0; round < 2000; ++round) {
        auto lease = leases->take(host, 2);
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

TEST_CASE("who writes already counts against a bound that came later") {
  const auto leases = std::make_shared<WriterLeases>();
  const auto first = leases->take("a", 0);
  const auto second = leases->take("b", 0);
  CHECK_FALSE(leases->available_to("c", 2));
  CHECK_FALSE(leases->take("c", 1));
  CHECK(leases->take("a", 1));
  CHECK(leases->available_to("c", 3));
}
