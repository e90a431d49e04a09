#include "engine/file/blocking_lane.h"

#include <cerrno>
#include <span>

namespace engine {

// Lives inside its Io, where the iocb has been: the kernel is done with that.
class BlockingLane::Work final : public BlockingPool::Job {
 public:
  Work(BlockingLane& lane_of_io, Io& io_to_do, std::uint64_t done_bytes) noexcept
      : lane(&lane_of_io), io(&io_to_do), done(done_bytes) {}

  void run() noexcept override { lane->perform(*this); }

  BlockingLane* lane;
  Io* io;
  std::uint64_t done;  // bytes from io->offset on
  std::int64_t result = 0;
};

BlockingLane::BlockingLane(BackingFile& file, BlockingPool& pool, const EventFd& wakeup) noexcept
    : file_(file), pool_(pool), wakeup_(wakeup) {}

BlockingLane::~BlockingLane() {
  // The thread that finished the last Io may still be inside finish(); it holds the mutex to the
  // end of that.
  const MutexLock lock(mutex_);
}

void BlockingLane::start(Io& io, std::uint64_t done) noexcept {
  auto& work = IoAccess::emplace<Work>(io, *this, io, done);
  if (io.operation == Operation::flush && !file_.flushes().add(io)) return;
  pool_.run(work);
}

IoList BlockingLane::take_finished() noexcept {
  // An owner that misses the flag here is woken: it is set before the eventfd is signalled.
  if (!any_finished_.load(std::memory_order_relaxed)) return {};
  const MutexLock lock(mutex_);
  any_finished_.store(false, std::memory_order_relaxed);
  return std::exchange(finished_, IoList());
}

std::int64_t BlockingLane::result(Io& io) noexcept { return IoAccess::get<Work>(io).result; }

void BlockingLane::perform(Work& work) noexcept {
  Io& io = *work.io;
  switch (io.operation) {
    case Operation::read:
    case Operation::write:
      return finish(work, transfer(work));
    case Operation::flush:
      return sync_group(file_, pool_);
    case Operation::discard:
    case Operation::write_zeroes:
      return continue_range(work);
    case Operation::cache:
      file_.prefetch(io.offset, io.length);
      return finish(work, 0);
    case Operation::block_status:
      return finish(work, file_.extents(io.offset, io.length,
                                        io.one_extent ? io.extents.first(1) : io.extents));
  }
  finish(work, -EINVAL);
}

std::int64_t BlockingLane::transfer(const Work& work) noexcept {
  const Io& io = *work.io;
  const auto offset = io.offset + work.done;
  const auto memory = std::span(io.buffer, io.length).subspan(work.done);
  const int error = io.operation == Operation::read ? file_.read(offset, memory)
                                                    : file_.write(offset, memory, io.fua);
  return error != 0 ? error : static_cast<std::int64_t>(io.length);
}

// One sync for the flushes of all lanes that wait for it. Belongs to none of them: each may be gone
// once its own have been told.
void BlockingLane::sync_group(BackingFile& file, BlockingPool& pool) noexcept {
  auto batch = file.flushes().take();
  const int result = file.sync();
  Io* const next = file.flushes().pass_on();
  // To the end of the pool's line.
  if (next != nullptr) pool.run(IoAccess::get<Work>(*next));
  while (Io* const io = batch.pop_front()) {
    auto& work = IoAccess::get<Work>(*io);
    work.lane->finish(work, result);
  }
}

// One piece of a discard or write_zeroes; then to the end of the pool's line for the next one.
void BlockingLane::continue_range(Work& work) noexcept {
  const Io& io = *work.io;
  if (io.fua && file_.sync_error() != 0) return finish(work, file_.sync_error());
  const bool zero = io.operation == Operation::write_zeroes;
  const bool fast = zero && file_.can_zero_fast(io.no_hole);
  // Whether zeroing is fast may turn out only at the first piece, but after that one it is no
  // longer true that nothing has changed.
  const bool must_be_fast = io.fast_zero && work.done == 0;
  if (zero && must_be_fast && !fast) return finish(work, -EOPNOTSUPP);

  const auto offset = io.offset + work.done;
  const auto length = file_.piece_length(offset, io.length - work.done, zero && !fast);
  const int error =
      zero ? file_.zero(offset, length, io.no_hole, must_be_fast) : file_.discard(offset, length);
  if (error != 0) return finish(work, error);
  work.done += length;
  if (work.done < io.length) return pool_.run(work);
  finish(work, io.fua ? file_.sync() : 0);
}

void BlockingLane::finish(Work& work, std::int64_t result) noexcept {
  work.result = result;
  // Signalled under the lock: once the owner has taken the last Io it may destroy the lane and the
  // eventfd.
  const MutexLock lock(mutex_);
  finished_.push_back(*work.io);
  any_finished_.store(true, std::memory_order_relaxed);
  wakeup_.signal();
}

}  // namespace engine
