// One queue's way to the BlockingPool and back: Ios go in on the thread that owns the queue, are
// carried out by blocking calls on a thread of the pool, and are taken out by the owner again.
#pragma once

#include <atomic>
#include <cstddef>
#include <cstdint>

#include "engine/blocking_pool.h"
#include "engine/event_fd.h"
#include "engine/file/backing_file.h"
#include "engine/io_access.h"
#include "engine/mutex.h"

namespace engine {

class BlockingLane {
 public:
  // All three outlive the lane. `wakeup` is signalled when take_finished() has something.
  BlockingLane(BackingFile& file, BlockingPool& pool, const EventFd& wakeup) noexcept;
  ~BlockingLane();  // every Io that was started must have been taken
  BlockingLane(const BlockingLane&) = delete;
  BlockingLane& operator=(const BlockingLane&) = delete;

  // Any operation. `done`: bytes of a read or write that have been transferred already. Flushes
  // share syncs with those of the file's other lanes.
  void start(Io& io, std::uint64_t done = 0) noexcept;

  // The Ios that are finished, each with its result(). Free of locks and system calls when there
  // are none.
  IoList take_finished() noexcept;
  static std::int64_t result(Io& io) noexcept;

 private:
  class Work;

  void perform(Work& work) noexcept;
  static void sync_group(BackingFile& file, BlockingPool& pool) noexcept;
  std::int64_t transfer(const Work& work) noexcept;
  void continue_range(Work& work) noexcept;
  void finish(Work& work, std::int64_t result) noexcept;

  BackingFile& file_;
  BlockingPool& pool_;
  const EventFd& wakeup_;

  Mutex mutex_;
  IoList finished_ LOOPNBD_GUARDED_BY(mutex_);
  std::atomic<bool> any_finished_{false};  // a hint for the owner; written under mutex_
};

}  // namespace engine
