// The flushes of one device, joined into as few syncs as it takes: one sync answers all that were
// asked for before it began. A flush that comes later needs another, for it has to cover writes
// that this one may have missed.
//
//     lead = group.add(io)         for each flush; the one that is told to lead goes to a thread
//     batch = group.take()         there, before the sync
//     next = group.pass_on()       after the sync, before the batch is told the result
#pragma once

#include <utility>

#include "engine/check.h"
#include "engine/io_access.h"
#include "engine/mutex.h"

namespace engine {

class FlushGroup {
 public:
  // Any thread. True: nobody syncs for this group; whoever added it has to see to it, now.
  bool add(Io& io) noexcept {
    const MutexLock lock(mutex_);
    waiting_.push_back(io);
    return !std::exchange(led_, true);
  }

  // For the leader: all that the sync which begins next is good for.
  IoList take() noexcept {
    const MutexLock lock(mutex_);
    LOOPNBD_ASSERT(led_ && !waiting_.empty());
    return std::exchange(waiting_, IoList());
  }

  // For the leader: the next one, which has come meanwhile and waits; nullptr: there is none, and
  // the next to add leads. When it returns nullptr the group is not the caller's business any more:
  // once its batch is told, the device may be gone.
  Io* pass_on() noexcept {
    const MutexLock lock(mutex_);
    LOOPNBD_ASSERT(led_);
    led_ = !waiting_.empty();
    return waiting_.front();
  }

 private:
  Mutex mutex_;
  IoList waiting_ LOOPNBD_GUARDED_BY(mutex_);
  bool led_ LOOPNBD_GUARDED_BY(mutex_) = false;
};

}  // namespace engine
