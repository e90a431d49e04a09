// Keeps a sync from claiming success too early. Syncs through one open file share the kernel's
// record of a failed write-back, and only one of them is told of it. So whoever is told that all is
// well has to wait for those that overlapped it: one of them may be about to note the failure.
#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <vector>

#include "engine/mutex.h"

namespace engine {

class SyncOverlap {
 public:
  // Any thread, before the call that syncs. Returns the ticket for end().
  std::uint64_t begin() {
    const MutexLock lock(mutex_);
    running_.push_back(next_);
    return next_++;
  }

  // After the call, and after its failure was noted: waits for all that began before now. These
  // wait in turn only for what began before their own end(), so that somebody can always go on.
  void end(std::uint64_t ticket) {
    const MutexLock lock(mutex_);
    running_.erase(std::find(running_.begin(), running_.end(), ticket));
    ended_.notify_all();
    const auto behind = next_;
    ++waiting_;
    // In the order in which they began, the oldest first.
    while (!running_.empty() && running_.front() < behind) ended_.wait(mutex_);
    --waiting_;
  }

  std::size_t waiting() const {
    const MutexLock lock(mutex_);
    return waiting_;
  }

 private:
  mutable Mutex mutex_;
  ConditionVariable ended_;
  std::uint64_t next_ LOOPNBD_GUARDED_BY(mutex_) = 0;
  // Ascending; as many as the pool has threads at most.
  std::vector<std::uint64_t> running_ LOOPNBD_GUARDED_BY(mutex_);
  std::size_t waiting_ LOOPNBD_GUARDED_BY(mutex_) = 0;
};

}  // namespace engine
