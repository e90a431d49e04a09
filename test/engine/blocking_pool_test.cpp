#include "engine/blocking_pool.h"

#include <pthread.h>
#include <signal.h>
#include <sys/resource.h>

#include <atomic>
#include <catch2/catch.hpp>
#include <chrono>
#include <functional>
#include <latch>
#include <memory>
#include <string>
#include <thread>
#include <vector>

using engine::BlockingPool;

namespace {

class Task final : public BlockingPool::Job {
 public:
  explicit Task(std::function<void(Task&)> work) : work_(std::move(work)) {}
  void run() noexcept override { work_(*this); }

 private:
  std::function<void(Task&)> work_;
};

}  // namespace

TEST_CASE("a pool finishes what it was given before it is gone") {
  std::atomic<int> done{0};
  std::vector<std::unique_ptr<Task>> tasks;
  for (int i = 0; i < 100; ++i) tasks.push_back(std::make_unique<Task>([&](Task&) { ++done; }));
  {
    BlockingPool pool(3);
    for (auto& task : tasks) pool.run(*task);
  }
  CHECK(done == 100);
}

TEST_CASE("jobs start in the order in which they came, one that comes again behind the others") {
  std::string order;
  std::latch open(1);
  int left = 3;
  BlockingPool* again_to = nullptr;
  Task gate([&](Task&) { open.wait(); });
  Task again([&](Task& self) {
    order += 'a';
    if (--left > 0) again_to->run(self);
  });
  Task once([&](Task&) { order += 'o'; });
  {
    BlockingPool pool(1);
    again_to = &pool;
    pool.run(gate);
    pool.run(again);
    pool.run(once);
    open.count_down();
  }
  CHECK(order == "aoaa");
}

TEST_CASE("a pool of several threads runs that many jobs side by side") {
  constexpr int count = 3;
  std::latch all_here(count);
  std::vector<std::unique_ptr<Task>> tasks;
  for (int i = 0; i < count; ++i)
    tasks.push_back(std::make_unique<Task>([&](Task&) { all_here.arrive_and_wait(); }));
  {
    BlockingPool pool(count);
    for (auto& task : tasks) pool.run(*task);
  }
  CHECK(all_here.try_wait());
}

TEST_CASE("threads of the pool leave signals to others") {
  sigset_t mask;
  sigemptyset(&mask);
  Task look([&](Task&) { pthread_sigmask(SIG_SETMASK, nullptr, &mask); });
  {
    BlockingPool pool(1);
    pool.run(look);
  }
  CHECK(sigismember(&mask, SIGTERM) == 1);
  CHECK(sigismember(&mask, SIGINT) == 1);
  sigset_t own;
  pthread_sigmask(SIG_SETMASK, nullptr, &own);
  CHECK(sigismember(&own, SIGTERM) == 0);
}

TEST_CASE("a pool makes a thread when there is work, and none stays without any") {
  BlockingPool pool(4, 0, std::chrono::milliseconds(0));
  CHECK(pool.thread_count() == 0);
  std::latch here(2);
  std::latch open(1);
  const auto wait = [&](Task&) {
    here.arrive_and_wait();
    open.wait();
  };
  Task one(wait);
  Task other(wait);
  pool.run(one);
  pool.run(other);
  here.wait();
  CHECK(pool.thread_count() == 2);
  open.count_down();
  while (pool.thread_count() > 0) std::this_thread::yield();

  std::latch again(1);
  Task later([&](Task&) { again.count_down(); });
  pool.run(later);
  again.wait();
}

TEST_CASE("threads of a nice pool give way to others, whose own priority stays") {
  const int own = ::getpriority(PRIO_PROCESS, 0);
  std::atomic<int> niceness{0};
  Task look([&](Task&) { niceness = ::getpriority(PRIO_PROCESS, 0); });
  {
    BlockingPool pool(1, 15);
    pool.run(look);
  }
  CHECK(niceness == 15);
  CHECK(::getpriority(PRIO_PROCESS, 0) == own);
}

TEST_CASE("threads that are kept are there before there is work, and stay when it is done") {
  BlockingPool pool(4, 0, std::chrono::milliseconds(0));
  pool.keep(2);
  CHECK(pool.thread_count() == 2);
  std::latch here(4);
  const auto wait = [&](Task&) { here.arrive_and_wait(); };
  Task one(wait);
  Task two(wait);
  Task three(wait);
  Task four(wait);
  for (auto* const task : {&one, &two, &three, &four}) pool.run(*task);
  here.wait();
  while (pool.thread_count() > 2) std::this_thread::yield();
  for (int i = 0; i < 1000; ++i) std::this_thread::yield();
  CHECK(pool.thread_count() == 2);
}

TEST_CASE("a thread that is idle takes the next job, and no other is made") {
  BlockingPool pool(4, 0, std::chrono::hours(1));
  for (int i = 0; i < 100; ++i) {
    std::atomic<bool> done{false};
    Task task([&](Task&) { done = true; });
    pool.run(task);
    while (!done) std::this_thread::yield();
  }
  // It may not have been back yet when the next job came.
  CHECK(pool.thread_count() <= 2);
}

TEST_CASE("a pool that can have no thread leaves the work to its caller, job after job") {
  pthread_attr_t usual;
  REQUIRE(pthread_getattr_default_np(&usual) == 0);
  pthread_attr_t impossible = usual;
  REQUIRE(pthread_attr_setstacksize(&impossible, std::size_t{1} << 60) == 0);
  REQUIRE(pthread_setattr_default_np(&impossible) == 0);
  int left = 100'000;  // more than a stack would bear
  {
    BlockingPool pool(2);
    Task again([&](Task& self) {
      if (--left > 0) pool.run(self);
    });
    pool.run(again);
    CHECK(left == 0);
    CHECK(pool.thread_count() == 0);
  }
  CHECK(pthread_setattr_default_np(&usual) == 0);
}

TEST_CASE("pools that have many threads in all leave each other one at least") {
  std::latch open(1);
  const auto wait = [&](Task&) { open.wait(); };
  std::vector<std::unique_ptr<Task>> tasks;
  const auto fill = [&](BlockingPool& pool, std::size_t count) {
    for (std::size_t i = 0; i < count; ++i)
      pool.run(*tasks.emplace_back(std::make_unique<Task>(wait)));
  };
  {
    BlockingPool large(BlockingPool::threads_max_in_all);
    BlockingPool small(4);
    fill(large, BlockingPool::threads_max_in_all);
    CHECK(large.thread_count() == BlockingPool::threads_max_in_all);
    fill(small, 2);
    CHECK(small.thread_count() == 1);
    open.count_down();
  }
}
