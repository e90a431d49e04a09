// The few threads for what the kernel cannot do asynchronously: fallocate, SEEK_HOLE, submissions
// that would block. Each device has a pool of its own, so that a disk that hangs holds up nobody
// else. A thread is made when there is work that no idle one can do, and ends after a while without
// any: a pool that is not used has none.
//
// All pools of the process together have one thread for each pool with work, and up to their own
// maxima only while there are fewer than threads_max_in_all.
#pragma once

#include <chrono>
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

  static constexpr std::size_t threads_max_in_all = 256;

  static constexpr auto idle_max_usual = std::chrono::seconds(10);

  // `niceness`: as nice(1) counts it, of the threads; 0: as the process.
  explicit BlockingPool(std::size_t threads_max, int niceness = 0,
                        std::chrono::milliseconds idle_max = idle_max_usual);
  ~BlockingPool();  // finishes what was given to it
  BlockingPool(const BlockingPool&) = delete;
  BlockingPool& operator=(const BlockingPool&) = delete;

  // First come, first served. Any thread, also from within Job::run(), even for the job that is
  // running if that is the last thing it does: so a long piece of work lets others go between its
  // parts. Where the system refuses the pool its only thread, the caller does what is there to do.
  void run(Job& job) noexcept;

  // Makes that many threads now, at most as many as there may be, which stay: for whoever must not
  // want memory later.
  void keep(std::size_t count) noexcept;

  // Threads at this moment, idle ones included.
  std::size_t thread_count() const noexcept;

 private:
  bool add_thread() noexcept LOOPNBD_REQUIRES(mutex_);
  void work() noexcept;
  void work_here() noexcept;
  Job* take() noexcept LOOPNBD_REQUIRES(mutex_);
  Job* wait_for_job() noexcept LOOPNBD_REQUIRES(mutex_);

  const std::size_t threads_max_;
  const int niceness_;
  const std::chrono::milliseconds idle_max_;
  mutable Mutex mutex_;
  ConditionVariable given_;
  ConditionVariable ended_;
  Job* first_ LOOPNBD_GUARDED_BY(mutex_) = nullptr;
  Job* last_ LOOPNBD_GUARDED_BY(mutex_) = nullptr;
  std::size_t waiting_ LOOPNBD_GUARDED_BY(mutex_) = 0;  // jobs that no thread has taken yet
  std::size_t idle_ LOOPNBD_GUARDED_BY(mutex_) = 0;     // threads that wait for one
  std::size_t kept_ LOOPNBD_GUARDED_BY(mutex_) = 0;     // threads that do not end when idle
  bool caller_works_ LOOPNBD_GUARDED_BY(mutex_) = false;
  bool stopping_ LOOPNBD_GUARDED_BY(mutex_) = false;
  std::vector<std::thread> threads_ LOOPNBD_GUARDED_BY(mutex_);
  // The last one that has left threads_; it joins the one before.
  std::thread leaving_ LOOPNBD_GUARDED_BY(mutex_);
};

}  // namespace engine
