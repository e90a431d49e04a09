#include "server/serving/admission.h"

#include <catch2/catch.hpp>

using namespace std::chrono_literals;
using proto::Command;
using server::Admission;

namespace {

proto::RequestHeader request(Command command, std::uint64_t length) {
  return {.command = command, .length = length};
}

}  // namespace

TEST_CASE("a request is charged once until it has begun") {
  auto limiter = server::ExportLimiter({.write_iops = 1, .burst_seconds = 0}, {});
  auto admission = Admission(limiter, limiter.for_client("host"));
  CHECK(admission.limited());
  const auto now = server::Clock::now();
  const auto write = request(Command::write, 512);
  CHECK(admission.charge(write, now) <= now);
  admission.forget();
  const auto second = admission.charge(write, now);
  CHECK(second > now);
  CHECK(admission.charged());
  CHECK(admission.charge(write, now + 1ms) == second);
  CHECK(admission.admitted_at() == second);
  admission.forget();
  CHECK_FALSE(admission.charged());
  CHECK(admission.charge(write, now) > second);
}

TEST_CASE("the later of both limits counts, and what moves no data takes no bytes") {
  auto limiter = server::ExportLimiter({.read_bytes = 1U << 20, .burst_seconds = 0},
                                       {.read_bytes = 1U << 10, .burst_seconds = 0});
  auto admission = Admission(limiter, limiter.for_client("host"));
  const auto now = server::Clock::now();
  for (const auto command : {Command::flush, Command::trim, Command::cache}) {
    CHECK(admission.charge(request(command, 1U << 20), now) <= now);
    admission.forget();
  }
  admission.charge(request(Command::read, 1U << 10), now);
  admission.forget();
  CHECK(admission.charge(request(Command::read, 512), now) >= now + 999ms);
}

TEST_CASE("without limits nothing is limited") {
  auto limiter = server::ExportLimiter({}, {});
  CHECK_FALSE(Admission(limiter, limiter.for_client("host")).limited());
}

TEST_CASE("a request that waits for its client's limit takes nothing from others") {
  auto limiter = server::ExportLimiter({.read_bytes = 1U << 20, .burst_seconds = 0},
                                       {.read_iops = 1, .burst_seconds = 0});
  auto waiting = Admission(limiter, limiter.for_client("greedy"));
  auto other = Admission(limiter, limiter.for_client("modest"));
  const auto now = server::Clock::now();
  waiting.charge(request(Command::read, 512), now);
  waiting.forget();
  const auto large = request(Command::read, 32U << 20);
  const auto turn = waiting.charge(large, now);
  CHECK(turn > now + 900ms);
  CHECK_FALSE(waiting.charged());
  CHECK(other.charge(request(Command::read, 512), now) <= now + 1ms);
  CHECK(waiting.charge(large, turn) <= turn);
  CHECK(waiting.charged());
  // Now it is its turn, and others wait for what it was charged.
  other.forget();
  CHECK(other.charge(request(Command::read, 512), turn) > turn + 10s);
}

TEST_CASE("a request that never begins gets its charges back") {
  const auto limits = server::RateLimits{.write_iops = 1, .write_bytes = 512, .burst_seconds = 0};
  auto limiter = server::ExportLimiter(limits, limits);
  const auto now = server::Clock::now();
  {
    auto admission = Admission(limiter, limiter.for_client("host"));
    admission.charge(request(Command::write, 1U << 20), now);
    CHECK(admission.charged());
  }
  auto admission = Admission(limiter, limiter.for_client("host"));
  CHECK(admission.charge(request(Command::write, 512), now) <= now);
}
