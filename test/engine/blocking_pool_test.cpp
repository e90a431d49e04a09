#include "engine/blocking_pool.h"

#include <signal.h>

#include <atomic>
#include <catch2/catch.hpp>
#include <functional>
#include <latch>
#include <memory>
#include <string>
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
