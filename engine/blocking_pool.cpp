#include "engine/blocking_pool.h"

#include <pthread.h>
#include <signal.h>
#include <sys/resource.h>

#include <algorithm>
#include <atomic>
#include <system_error>
#include <utility>

namespace engine {

namespace {

std::atomic<std::size_t> threads_in_all{0};

}  // namespace

BlockingPool::BlockingPool(std::size_t threads_max, int niceness,
                           std::chrono::milliseconds idle_max)
    : threads_max_(std::max<std::size_t>(threads_max, 1)),
      niceness_(niceness),
      idle_max_(idle_max) {
  threads_.reserve(threads_max_);
}

BlockingPool::~BlockingPool() {
  std::thread last;
  {
    const MutexLock lock(mutex_);
    stopping_ = true;
    given_.notify_all();
    while (!threads_.empty() || caller_works_) ended_.wait(mutex_);
    last = std::move(leaving_);
  }
  if (last.joinable()) last.join();
}

void BlockingPool::run(Job& job) noexcept {
  bool alone = false;
  {
    const MutexLock lock(mutex_);
    job.next = nullptr;
    (last_ != nullptr ? last_->next : first_) = &job;
    last_ = &job;
    ++waiting_;
    if (waiting_ <= idle_) {
      given_.notify_one();
    } else if (!add_thread()) {
      alone = threads_.empty() && !std::exchange(caller_works_, true);
    }
  }
  if (alone) work_here();
}

void BlockingPool::keep(std::size_t count) noexcept {
  const MutexLock lock(mutex_);
  kept_ = std::min(count, threads_max_);
  while (threads_.size() < kept_ && add_thread()) {
  }
}

std::size_t BlockingPool::thread_count() const noexcept {
  const MutexLock lock(mutex_);
  return threads_.size();
}

// False: there may be no more, or the system has none.
bool BlockingPool::add_thread() noexcept {
  if (threads_.size() == threads_max_) return false;
  if (!threads_.empty() && threads_in_all.load(std::memory_order_relaxed) >= threads_max_in_all)
    return false;
  // The thread inherits the mask: signals are for the threads of the server, which know what to do
  // with them.
  sigset_t all;
  sigset_t before;
  sigfillset(&all);
  pthread_sigmask(SIG_SETMASK, &all, &before);
  bool added = true;
  try {
    threads_.emplace_back([this] { work(); });
    threads_in_all.fetch_add(1, std::memory_order_relaxed);
  } catch (const std::system_error&) {
    added = false;
  }
  pthread_sigmask(SIG_SETMASK, &before, nullptr);
  return added;
}

void BlockingPool::work() noexcept {
  ::pthread_setname_np(::pthread_self(), "blocking");  // for ps and top
  // Zero stands for the calling thread.
  if (niceness_ != 0) ::setpriority(PRIO_PROCESS, 0, niceness_);
  std::thread previous;
  {
    const MutexLock lock(mutex_);
    while (Job* const job = wait_for_job()) {
      mutex_.unlock();
      job->run();
      mutex_.lock();
    }
    const auto self = std::find_if(threads_.begin(), threads_.end(), [](const std::thread& thread) {
      return thread.get_id() == std::this_thread::get_id();
    });
    previous = std::exchange(leaving_, std::move(*self));
    threads_.erase(self);
    threads_in_all.fetch_sub(1, std::memory_order_relaxed);
    ended_.notify_all();
  }
  if (previous.joinable()) previous.join();
}

void BlockingPool::work_here() noexcept {
  const MutexLock lock(mutex_);
  while (Job* const job = take()) {
    mutex_.unlock();
    job->run();
    mutex_.lock();
  }
  caller_works_ = false;
  ended_.notify_all();
}

// nullptr: there is none.
BlockingPool::Job* BlockingPool::take() noexcept {
  Job* const job = first_;
  if (job == nullptr) return nullptr;
  first_ = job->next;
  if (first_ == nullptr) last_ = nullptr;
  --waiting_;
  return job;
}

// nullptr: there was none for a while, or the pool stops and nothing is left.
BlockingPool::Job* BlockingPool::wait_for_job() noexcept {
  if (first_ == nullptr && !stopping_) {
    const auto deadline = std::chrono::steady_clock::now() + idle_max_;
    ++idle_;
    while (first_ == nullptr && !stopping_) {
      if (threads_.size() <= kept_)
        given_.wait(mutex_);
      else if (!given_.wait_until(mutex_, deadline) && threads_.size() > kept_)
        break;
    }
    --idle_;
  }
  return take();
}

}  // namespace engine
