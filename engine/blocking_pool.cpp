#include "engine/blocking_pool.h"

#include <pthread.h>
#include <signal.h>

#include <algorithm>

namespace engine {

BlockingPool::BlockingPool(std::size_t thread_count) {
  // The threads inherit the mask: signals are for the threads of the server, which know what to do
  // with them.
  sigset_t all;
  sigset_t before;
  sigfillset(&all);
  pthread_sigmask(SIG_SETMASK, &all, &before);
  for (std::size_t i = 0; i < std::max<std::size_t>(thread_count, 1); ++i)
    threads_.emplace_back([this] { work(); });
  pthread_sigmask(SIG_SETMASK, &before, nullptr);
}

BlockingPool::~BlockingPool() {
  {
    const MutexLock lock(mutex_);
    stopping_ = true;
  }
  given_.notify_all();
  for (auto& thread : threads_) thread.join();
}

void BlockingPool::run(Job& job) noexcept {
  {
    const MutexLock lock(mutex_);
    job.next = nullptr;
    (last_ != nullptr ? last_->next : first_) = &job;
    last_ = &job;
  }
  given_.notify_one();
}

void BlockingPool::work() noexcept {
  while (Job* const job = take()) job->run();
}

// Waits for one; nullptr: the pool stops, and nothing is left.
BlockingPool::Job* BlockingPool::take() noexcept {
  const MutexLock lock(mutex_);
  while (first_ == nullptr && !stopping_) given_.wait(mutex_);
  Job* const job = first_;
  if (job == nullptr) return nullptr;
  first_ = job->next;
  if (first_ == nullptr) last_ = nullptr;
  return job;
}

}  // namespace engine
