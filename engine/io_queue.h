// The way into a device for one thread: operations are collected by submit(), started by flush()
// and finished by harvest(). All members are called by the owning thread only, and none of them
// blocks on the device.
//
//     queue.submit(io);   // for each of a batch
//     queue.flush();      // a system call for several of them
//     queue.harvest();    // runs Io::complete() for what is done
#pragma once

#include <cstddef>

#include "engine/io.h"

namespace engine {

class IoQueue {
 public:
  // Every submitted Io must have completed.
  virtual ~IoQueue() = default;

  // Only queues; any number at a time (what exceeds the depth waits inside).
  virtual void submit(Io& io) noexcept = 0;

  // Hands what was submitted to the kernel or to helper threads. Errors arrive by complete().
  virtual void flush() noexcept = 0;

  // Completes what is done and returns how many that were. complete() may submit again; such
  // operations are started by the next flush().
  virtual std::size_t harvest() noexcept = 0;

  // Becomes readable when harvest() has or may have work. Stays so until clear_wakeup().
  // An eventfd: a layer above the queue may signal it, too.
  virtual int wakeup_fd() const noexcept = 0;
  // Call before harvest(), so that no completion between the two is missed.
  virtual void clear_wakeup() noexcept = 0;

  // Gives back what the kernel holds for the queue, which costs the whole system, until the next
  // flush(). For a queue that has nothing to do for a while: nothing is in flight.
  virtual void suspend() noexcept {}

  // Submitted and not completed.
  virtual std::size_t in_flight() const noexcept = 0;
};

}  // namespace engine
