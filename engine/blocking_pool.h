// The few threads for what the kernel cannot do asynchronously: fallocate, SEEK_HOLE, submissions that would block.
// One pool serves all devices and workers of the process.
#pragma once

#include <condition_variable>
#include <cstddef>
#include <mutex>
#include <thread>
#include <vector>

namespace engine {

class BlockingPool {
 public:
  // A piece of work; its owner keeps it in place until run() has returned. `next` belongs to the pool meanwhile.
  class Job {
   public:
    virtual void run() noexcept = 0;  // on a thread of the pool; may block

   protected:
    ~Job() = default;

   private:
    friend class BlockingPool;
    Job* next_ = nullptr;
  };

  explicit BlockingPool(std::size_t thread_count);
  ~BlockingPool();  // finishes what was given to it
  BlockingPool(const BlockingPool&) = delete;
  BlockingPool& operator=(const BlockingPool&) = delete;

  // First come, first served. Any thread.
  void run(Job& job) noexcept;

 private:
  // Implementation: free to change.
};

}  // namespace engine
