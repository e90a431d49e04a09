// The common base of the queues of a BackingFile: the Ios that wait to be looked at, those that
// have a result without the kernel's help, the lane to the BlockingPool, and the wake-up. A queue
// adds flush() and harvest(), and in them the way of its own to the kernel. Used by one thread.
#pragma once

#include <cstddef>
#include <cstdint>

#include "engine/event_fd.h"
#include "engine/file/backing_file.h"
#include "engine/file/blocking_lane.h"
#include "engine/io_access.h"
#include "engine/io_queue.h"

namespace engine {

class FileQueue : public IoQueue {
 public:
  FileQueue(const FileQueue&) = delete;
  FileQueue& operator=(const FileQueue&) = delete;

  void submit(Io& io) noexcept final;
  int wakeup_fd() const noexcept final { return wakeup_.get(); }
  void clear_wakeup() noexcept final { wakeup_.clear(); }
  std::size_t in_flight() const noexcept final { return in_flight_; }

 protected:
  // `file` and `pool` outlive the queue. Throws std::system_error.
  FileQueue(BackingFile& file, BlockingPool& pool);
  ~FileQueue() override;

  // The result is told by the next harvest_finished(). The flush() that calls this also calls
  // wake_for_finished() at its end.
  void finish_later(Io& io, std::int64_t result) noexcept;
  void wake_for_finished() const noexcept;
  // Completes what the pool is done with and what finish_later() has; returns how many that were.
  std::size_t harvest_finished() noexcept;
  void complete(Io& io, std::int64_t result) noexcept;

  bool invariants() const noexcept;

  BackingFile& file_;
  const EventFd wakeup_;
  BlockingLane lane_;
  IoList waiting_;  // submitted, not looked at yet

 private:
  IoList finished_;  // have a result
  std::size_t in_flight_ = 0;
};

}  // namespace engine
