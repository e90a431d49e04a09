#include "engine/file/buffered_queue.h"

#include <fcntl.h>
#include <sys/uio.h>

#include <cerrno>

#include "engine/check.h"

namespace engine {

void BufferedQueue::flush() noexcept {
  while (Io* const io = waiting_.pop_front()) {
    const bool read = io->operation == Operation::read;
    const bool at_once = (read && read_at_once_) ||
                         (io->operation == Operation::write && !io->fua && write_at_once_);
    const auto done = at_once ? transfer_at_once(*io) : 0;
    if (at_once && done == io->length) {
      finish_later(*io, static_cast<std::int64_t>(done));
    } else {
      lane_.start(*io, done);
    }
  }
  wake_for_finished();
  LOOPNBD_ASSERT(invariants());
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
  const auto count = harvest_finished();
  // Operations that complete() has submitted: nothing may be left to wake for them.
  if (!waiting_.empty()) flush();
  return count;
}

}  // namespace engine
