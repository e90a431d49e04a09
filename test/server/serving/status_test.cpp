#include "server/serving/status.h"

#include <algorithm>
#include <catch2/catch.hpp>
#include <tuple>

using namespace std::chrono_literals;
using server::DurationStatus;
using server::ServerStatus;
using server::WorkerStatus;

TEST_CASE("a quantile is the end of the bucket that holds it") {
  auto status = DurationStatus{};
  CHECK(status.quantile(0.5) == 0ns);
  auto counter = server::DurationCounter();
  for (auto count = 0; count < 99; ++count) counter.add(1us);
  counter.add(1s);
  status.add(counter);
  CHECK(status.count() == 100);
  CHECK(status.sum == 99us + 1s);
  CHECK(status.quantile(0.5) == server::duration_bucket_end(server::duration_bucket(1us)));
  CHECK(status.quantile(1) == server::duration_bucket_end(server::duration_bucket(1s)));
}

TEST_CASE("the server's sums are those of its workers") {
  auto status = ServerStatus{};
  for (const auto responding : {true, false}) {
    auto worker = WorkerStatus{};
    worker.responding = responding;
    worker.connections = 2;
    worker.memory_in_use = 10;
    worker.memory_budget = 100;
    status.workers.push_back(worker);
  }
  CHECK_FALSE(status.all_workers_respond());
  CHECK(status.connection_count() == 4);
  CHECK(status.memory_in_use() == 20);
  CHECK(status.memory_budget() == 200);
}

TEST_CASE("each counter of the workers is added up") {
  auto sums = server::WorkerSums{};
  auto metrics = server::WorkerMetrics();
  std::apply([&](auto... members) { ((metrics.*members).add(3), ...); },
             server::WorkerMetrics::all);
  for (auto worker = 0; worker < 2; ++worker) add_up(sums, metrics);
  const auto check = [&](auto member) { CHECK(sums.*member == 6); };
  std::apply([&](auto... members) { (check(members), ...); }, server::WorkerSums::all);
}

TEST_CASE("times and errors of the workers are added up like counts") {
  auto metrics = server::CommandMetrics();
  metrics.begun.add(5);
  metrics.send.add(2us);
  metrics.add_error(proto::Error::io);
  auto sums = server::CommandSums{};
  for (auto worker = 0; worker < 2; ++worker) add_up(sums, metrics);
  CHECK(sums.begun == 10);
  CHECK(sums.ended == 0);
  CHECK(sums.send.count() == 2);
  CHECK(sums.send.sum == 4us);
  CHECK(std::ranges::count(sums.errors, 2U) == 1);
  CHECK(std::ranges::count(sums.errors, 0U) == std::ssize(sums.errors) - 1);
}
