#include "server/base/blocking_task.h"

#include <atomic>
#include <catch2/catch.hpp>
#include <chrono>
#include <exception>
#include <latch>
#include <stdexcept>
#include <string>
#include <thread>
#include <utility>

namespace {

std::atomic<int> ended_elsewhere{0};

class Failure : public std::exception {
 public:
  explicit Failure(std::thread::id home) : home_(home) {}
  Failure(const Failure&) = default;
  Failure& operator=(const Failure&) = default;
  ~Failure() override {
    if (std::this_thread::get_id() != home_) ++ended_elsewhere;
  }
  const char* what() const noexcept override { return "it does not work"; }

 private:
  std::thread::id home_;
};

server::Awaitable<void> fail_on_pool(server::asio::io_context& io_context,
                                     engine::BlockingPool& pool, std::string& text) {
  const std::function<void()> failing = [home = std::this_thread::get_id()] {
    throw Failure(home);
  };
  try {
    co_await server::run_blocking(io_context, pool, failing);
  } catch (const std::exception& failure) {
    text = failure.what();
  }
}

}  // namespace

TEST_CASE("what the work throws is thrown, and comes to its end, on the thread that waits") {
  auto pool = engine::BlockingPool(1);
  ended_elsewhere = 0;
  for (auto round = 0; round < 2000; ++round) {
    auto io_context = server::asio::io_context(1);
    auto text = std::string();
    server::asio::co_spawn(io_context, fail_on_pool(io_context, pool, text),
                           server::asio::detached);
    io_context.run();
    REQUIRE(text == "it does not work");
  }
  CHECK(ended_elsewhere == 0);
}

namespace {

server::Awaitable<void> wait_for(server::asio::io_context& io_context, engine::BlockingPool& pool,
                                 std::function<void()> work, std::chrono::seconds longest,
                                 std::string& outcome) {
  try {
    const auto ended = co_await server::run_blocking_for(io_context, pool, work, longest);
    outcome = ended ? "ended" : "goes on";
  } catch (const std::exception& failure) {
    outcome = failure.what();
  }
}

}  // namespace

TEST_CASE("work that takes too long is not waited for, and may end whenever it does") {
  auto outcome = std::string();
  std::latch open(1);
  auto pool = engine::BlockingPool(1);
  auto io_context = server::asio::io_context(1);
  const auto run = [&](std::function<void()> work, std::chrono::seconds longest) {
    server::asio::co_spawn(io_context,
                           wait_for(io_context, pool, std::move(work), longest, outcome),
                           server::asio::detached);
    io_context.restart();
    while (outcome.empty()) io_context.run_one();
    return std::exchange(outcome, "");
  };
  CHECK(run([] {}, std::chrono::hours(1)) == "ended");
  CHECK(run([] { throw std::runtime_error("wrong"); }, std::chrono::hours(1)) == "wrong");
  CHECK(run([&] { open.wait(); }, std::chrono::seconds(0)) == "goes on");
  open.count_down();
  CHECK(run([] {}, std::chrono::hours(1)) == "ended");
}
