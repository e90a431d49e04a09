#include "engine/file/buffered_queue.h"

#include <fcntl.h>
#include <sys/uio.h>

#include <cassert>
#include <cerrno>
#include <utility>

namespace engine {

BufferedQueue::BufferedQueue(BackingFile& file, BlockingPool& pool)
    : file_(file), lane_(file, pool, wakeup_) {}

BufferedQueue::~BufferedQueue() { assert(in_flight_ == 0); }

void BufferedQueue::submit(Io& io) noexcept {
  ++in_flight_;
  waiting_.push_back(io);
}

void BufferedQueue::flush() noexcept {
  while (Io* const io = waiting_.pop_front()) {
    const bool read = io->operation == Operation::read;
    const bool at_once = (read && read_at_once_) ||
                         (io->operation == Operation::write && !io->fua && write_at_once_);
    const auto done = at_once ? transfer_at_once(*io) : 0;
    if (at_once && done == io->length) {
      finished_.push_back(*io);
    } else {
      lane_.start(*io, done);
    }
  }
  if (!finished_.empty()) wakeup_.signal();
}

// How many bytes of a read or write could be done without waiting. Errors count as none: the pool
// meets them again, and may wait.
std::uint64_t BufferedQueue::transfer_at_once(Io& io) noexcept {
  const iovec vector{io.buffer, io.length};
  const auto position = static_cast<off_t>(file_.file_offset(io.offset));
  const int fd = file_.fd_for(io.offset);
  const bool read = io.operation == Operation::read;
  const auto done = read ? ::preadv2(fd, &vector, 1, position, RWF_NOWAIT)
                         : ::pwritev2(fd, &vector, 1, position, RWF_NOWAIT);
  if (done < 0 && errno == EOPNOTSUPP) (read ? read_at_once_ : write_at_once_) = false;
  return done > 0 ? static_cast<std::uint64_t>(done) : 0;
}

std::size_t BufferedQueue::harvest() noexcept {
  std::size_t count = 0;
  for (auto list = lane_.take_finished(); Io* const io = list.pop_front(); ++count)
    complete(*io, BlockingLane::result(*io));
  for (auto list = std::exchange(finished_, IoList()); Io* const io = list.pop_front(); ++count)
    complete(*io, static_cast<std::int64_t>(io->length));
  // What complete() has submitted: nothing may be left to wake for it.
  if (!waiting_.empty()) flush();
  return count;
}

void BufferedQueue::complete(Io& io, std::int64_t result) noexcept {
  --in_flight_;
  io.complete(result);
}

}  // namespace engine
