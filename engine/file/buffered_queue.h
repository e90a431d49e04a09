// I/O by way of the page cache, for file systems that refuse direct I/O or when it is turned off.
// What the cache can do at once (RWF_NOWAIT: a read of pages that are there, on some file systems
// also a write) is done by flush() in place, the rest on the BlockingPool. Any alignment.
#pragma once

#include <cstddef>
#include <cstdint>

#include "engine/event_fd.h"
#include "engine/file/backing_file.h"
#include "engine/file/blocking_lane.h"
#include "engine/io_access.h"
#include "engine/io_queue.h"

namespace engine {

class BufferedQueue final : public IoQueue {
 public:
  // `file` and `pool` outlive the queue. Throws std::system_error.
  BufferedQueue(BackingFile& file, BlockingPool& pool);
  ~BufferedQueue() override;

  void submit(Io& io) noexcept override;
  void flush() noexcept override;
  std::size_t harvest() noexcept override;
  int wakeup_fd() const noexcept override { return wakeup_.get(); }
  void clear_wakeup() noexcept override { wakeup_.clear(); }
  std::size_t in_flight() const noexcept override { return in_flight_; }

 private:
  std::uint64_t transfer_at_once(Io& io) noexcept;
  void complete(Io& io, std::int64_t result) noexcept;

  BackingFile& file_;
  const EventFd wakeup_;
  BlockingLane lane_;
  bool read_at_once_ = true;  // false once the file system has refused RWF_NOWAIT
  bool write_at_once_ = true;

  IoList waiting_;   // submitted, not looked at yet
  IoList finished_;  // reads and writes that were done in place
  std::size_t in_flight_ = 0;
};

}  // namespace engine
