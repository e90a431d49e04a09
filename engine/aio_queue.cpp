#include "engine/aio_queue.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <sys/uio.h>

#include <array>
#include <cassert>
#include <cerrno>
#include <cstdlib>
#include <cstring>
#include <fstream>
#include <stdexcept>
#include <string>
#include <string_view>

namespace engine {

namespace {

constexpr std::size_t events_at_once = 64;

std::string sysctl_value(const char* path) {
  std::ifstream file(path);
  std::string value;
  return std::getline(file, value) ? value : "unknown";
}

std::string setup_failure(std::size_t depth_max, int error) {
  if (error != EAGAIN) {
    return fmt::format("cannot set up asynchronous I/O for {} operations (io_setup: {})", depth_max,
                       std::strerror(error));
  }
  const auto limit = sysctl_value("/proc/sys/fs/aio-max-nr");
  const auto used = sysctl_value("/proc/sys/fs/aio-nr");
  return fmt::format(
      "cannot set up asynchronous I/O: this queue needs {} operations, but the system allows {} in "
      "all "
      "(fs.aio-max-nr) and {} are taken. Raise the limit, for example: sysctl -w "
      "fs.aio-max-nr=1048576",
      depth_max, limit, used);
}

}  // namespace

HarvestBy default_harvest() noexcept {
#if defined(__SANITIZE_THREAD__)
  return HarvestBy::system_call;
#else
  static const bool off = [] {
    const char* const value = std::getenv("LOOPNBD_AIO_RING");
    return value != nullptr && std::string_view(value) == "off";
  }();
  return off ? HarvestBy::system_call : HarvestBy::ring;
#endif
}

AioQueue::Context::Context(std::size_t depth_max) {
  const int error = ::io_setup(static_cast<int>(depth_max), &context_);
  if (error < 0) throw std::runtime_error(setup_failure(depth_max, -error));
}

AioQueue::Context::~Context() { ::io_destroy(context_); }

AioQueue::AioQueue(BackingFile& file, BlockingPool& pool, std::size_t depth_max,
                   HarvestBy harvest_by)
    : file_(file),
      depth_max_(depth_max),
      context_(depth_max),
      lane_(file, pool, wakeup_),
      nowait_(file.traits().nowait) {
  batch_.reserve(depth_max);
  const AioRing ring(context_.get());
  if (harvest_by == HarvestBy::ring && ring.usable()) ring_ = ring;
}

AioQueue::~AioQueue() { assert(in_flight_ == 0); }

void AioQueue::submit(Io& io) noexcept {
  ++in_flight_;
  waiting_.push_back(io);
}

void AioQueue::flush() noexcept {
  while (in_kernel_ + batch_.size() < depth_max_ && !waiting_.empty())
    dispatch(*waiting_.pop_front());

  std::size_t done = 0;
  while (done < batch_.size()) {
    const auto count = static_cast<long>(batch_.size() - done);
    const int taken = ::io_submit(context_.get(), count, &batch_[done]);
    if (taken > 0) {
      done += static_cast<std::size_t>(taken);
      in_kernel_ += static_cast<std::size_t>(taken);
      continue;
    }
    // No room: completions make some, and harvest() goes on here.
    if ((taken == 0 || taken == -EAGAIN) && in_kernel_ > 0) break;
    refuse(*static_cast<Io*>(batch_[done++]->data), taken);  // the first one is the faulty one
  }
  batch_.erase(batch_.begin(), batch_.begin() + static_cast<std::ptrdiff_t>(done));
  if (!finished_.empty()) wakeup_.signal();
}

// To the kernel's batch, to the pool, or to an answer without either.
void AioQueue::dispatch(Io& io) noexcept {
  const bool flush = io.operation == Operation::flush;
  const bool transfer = io.operation == Operation::read || io.operation == Operation::write;
  if (io.operation == Operation::cache) return finish_later(io, 0);  // there is none to fill
  if (flush || io.fua) {
    if (const int error = file_.sync_error(); error != 0) return finish_later(io, error);
  }
  // With a tail in the page cache a flush has to heed what else is being synced: SyncOverlap.
  if (flush && file_.has_tail()) return lane_.start(io);
  if (!flush && (!transfer || file_.in_tail(io.offset))) return lane_.start(io);
  // Certain to be refused with RWF_NOWAIT, and without it io_submit might wait for the device.
  if (transfer && nowait_ && io.length > file_.traits().nowait_length_max) return lane_.start(io);
  prepare(io);
}

void AioQueue::prepare(Io& io) noexcept {
  auto& block = IoAccess::emplace<iocb>(io);
  block.data = &io;
  block.aio_fildes = file_.fd_for(0);
  ::io_set_eventfd(&block, wakeup_.get());
  if (io.operation == Operation::flush) {
    block.aio_lio_opcode = IO_CMD_FDSYNC;  // the kernel wants all other fields to be zero
  } else {
    const bool write = io.operation == Operation::write;
    block.aio_lio_opcode = write ? IO_CMD_PWRITE : IO_CMD_PREAD;
    block.u.c.buf = io.buffer;
    block.u.c.nbytes = io.length;
    block.u.c.offset = static_cast<long long>(file_.file_offset(io.offset));
    block.aio_rw_flags = (nowait_ ? RWF_NOWAIT : 0) | (write && io.fua ? RWF_DSYNC : 0);
  }
  batch_.push_back(&block);
}

// The kernel has not taken it: -EAGAIN for want of memory, -EOPNOTSUPP for a flag, or an error of
// the operation. Whatever a sync is refused with, it has not happened.
void AioQueue::refuse(Io& io, int error) noexcept {
  if (error == -EOPNOTSUPP) nowait_ = false;
  const bool pool_can = error == 0 || error == -EAGAIN || error == -EOPNOTSUPP;
  if (pool_can) return lane_.start(io);
  finish_later(io, io.operation == Operation::flush ? file_.note_sync_failure(error) : error);
}

void AioQueue::finish_later(Io& io, std::int64_t result) noexcept {
  IoAccess::emplace<std::int64_t>(io, result);
  finished_.push_back(io);
}

std::size_t AioQueue::harvest() noexcept {
  const auto by_kernel = ring_ ? harvest_ring() : harvest_system_call();
  const auto count = by_kernel + harvest_finished();
  // What waited for room, and what complete() has submitted: nothing may be left to wake for it.
  if (!waiting_.empty() || !batch_.empty()) flush();
  return count;
}

std::size_t AioQueue::harvest_ring() noexcept {
  std::size_t count = 0;
  io_event event;
  while (ring_->pop(event)) {
    count += settle(*static_cast<Io*>(event.data), static_cast<std::int64_t>(event.res)) ? 1U : 0U;
  }
  return count;
}

std::size_t AioQueue::harvest_system_call() noexcept {
  std::size_t count = 0;
  std::array<io_event, events_at_once> events;
  while (in_kernel_ > 0) {
    timespec at_once{0, 0};
    const int got = ::io_getevents(context_.get(), 0, events_at_once, events.data(), &at_once);
    if (got == -EINTR) continue;
    if (got <= 0) break;
    for (const auto& event : std::span(events).first(static_cast<std::size_t>(got)))
      count +=
          settle(*static_cast<Io*>(event.data), static_cast<std::int64_t>(event.res)) ? 1U : 0U;
  }
  return count;
}

std::size_t AioQueue::harvest_finished() noexcept {
  std::size_t count = 0;
  for (auto list = lane_.take_finished(); Io* const io = list.pop_front(); ++count)
    complete(*io, BlockingLane::result(*io));
  for (auto list = std::exchange(finished_, IoList()); Io* const io = list.pop_front(); ++count)
    complete(*io, IoAccess::get<std::int64_t>(*io));
  return count;
}

// The kernel is done with it; false when the pool goes on with it.
bool AioQueue::settle(Io& io, std::int64_t result) noexcept {
  --in_kernel_;
  if (io.operation != Operation::flush) return settle_transfer(io, result);
  // A failure that came between by another way sticks, too.
  complete(io, result < 0 ? file_.note_sync_failure(static_cast<int>(result)) : file_.sync_error());
  return true;
}

bool AioQueue::settle_transfer(Io& io, std::int64_t result) noexcept {
  if (result == static_cast<std::int64_t>(io.length)) {
    complete(io, io.fua && file_.sync_error() != 0 ? file_.sync_error() : result);
    return true;
  }
  if (result == -EAGAIN || result == -EOPNOTSUPP) {
    if (result == -EOPNOTSUPP) nowait_ = false;
    // Would have blocked. Holes, pages in the cache, a fallocate under way, no free request of the
    // device: all of that is the pool's business. Nothing has been acknowledged, so that writing it
    // again does no harm.
    lane_.start(io);
    return false;
  }
  if (result >= 0) {
    // Cut short: by RWF_NOWAIT in the middle, or by the end of the file. The pool finds out which.
    const auto block_size = static_cast<std::int64_t>(file_.traits().block_size);
    lane_.start(io, static_cast<std::uint64_t>(result - result % block_size));
    return false;
  }
  // Direct I/O allocates before it writes, so that a refusal cannot have come from the sync.
  const auto error = static_cast<int>(result);
  const bool sync_failed =
      io.operation == Operation::write && io.fua && !BackingFile::is_refusal(error);
  complete(io, sync_failed ? file_.note_sync_failure(error) : error);
  return true;
}

void AioQueue::complete(Io& io, std::int64_t result) noexcept {
  --in_flight_;
  io.complete(result);
}

}  // namespace engine
