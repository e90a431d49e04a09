// The few threads for what the kernel cannot do asynchronously: fallocate, SEEK_HOLE, submissions
// that would block. One pool serves all devices and workers of the process.
#pragma once

#include <cstddef>
#include <thread>
#include <vector>

#include "engine/mutex.h"

namespace engine {

class BlockingPool {
 public:
  // A piece of work; its owner keeps it in place until run() begins to say that it is done: the
  // pool does not touch a job once it has called run().
  class Job {
   public:
    virtual void run() noexcept = 0;  // on a thread of the pool; may block

    Job* next = nullptr;  // the pool's, from BlockingPool::run() until run()

   protected:
    ~Job() = default;
  };

  explicit BlockingPool(std::size_t thread_count);
  ~BlockingPool();  // finishes what was given to it
  BlockingPool(const BlockingPool&) = delete;
  BlockingPool& operator=(const BlockingPool&) = delete;

  // First come, first served. Any thread, also from within Job::run(), even for the job that is
  // running if that is the last thing it does: so a long piece of work lets others go between its
  // parts.
  void run(Job& job) noexcept;

 private:
  void work() noexcept;
  Job* take() noexcept;

  Mutex mutex_;
  ConditionVariable given_;
  Job* first_ LOOPNBD_GUARDED_BY(mutex_) = nullptr;
  Job* last_ LOOPNBD_GUARDED_BY(mutex_) = nullptr;
  bool stopping_ LOOPNBD_GUARDED_BY(mutex_) = false;
  std::vector<std::thread> threads_;
};

}  // namespace engine
