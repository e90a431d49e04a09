#include "engine/file/aio_queue.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <sys/uio.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstdlib>
#include <cstring>
#include <fstream>
#include <string>
#include <string_view>

#include "engine/check.h"

namespace engine {

namespace {

constexpr std::size_t events_at_once = 64;
// Others may have given back theirs by then.
constexpr auto context_pause = std::chrono::seconds(10);
// A device begins with the first of them while the next are being submitted: one that is given a
// whole batch has stood still until then.
constexpr std::size_t submitted_at_once = 8;
// With more, client and server are both busy anyway, and what that costs is not earned again.
constexpr std::size_t answered_early_max = 32;

std::string sysctl_value(const char* path) {
  std::ifstream file(path);
  std::string value;
  return std::getline(file, value) ? value : "unknown";
}

std::string shortage(std::size_t operations) {
  return fmt::format(
      "asynchronous I/O needs {} operations, but the system allows {} in all (fs.aio-max-nr) and "
      "{} "
      "are taken. Raise the limit, for example: sysctl -w fs.aio-max-nr=1048576",
      operations, sysctl_value("/proc/sys/fs/aio-max-nr"), sysctl_value("/proc/sys/fs/aio-nr"));
}

std::string setup_failure(std::size_t depth_max, int error) {
  if (error == EAGAIN) return shortage(depth_max);
  return fmt::format("cannot set up asynchronous I/O for {} operations (io_setup: {})", depth_max,
                     std::strerror(error));
}

std::atomic<bool> contexts_are_left{false};

}  // namespace

// Lives inside its Io until it runs.
class AioQueue::Submission final : public BlockingPool::Job {
 public:
  Submission(AioQueue& queue_of_io, Io& io_to_submit) noexcept
      : queue(&queue_of_io), io(&io_to_submit) {}

  void run() noexcept override { queue->submit_on_pool_thread(*io); }

  AioQueue* queue;
  Io* io;
};

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

int aio_unavailable() noexcept {
  // A context for no operations is refused by who has contexts, too, but not for these reasons.
  io_context_t context = nullptr;
  const int error = ::io_setup(0, &context);
  return error == -ENOSYS || error == -EPERM ? error : 0;
}

std::string aio_shortage(std::size_t operations) {
  std::size_t limit = 0;
  std::size_t used = 0;
  std::ifstream("/proc/sys/fs/aio-max-nr") >> limit;
  std::ifstream("/proc/sys/fs/aio-nr") >> used;
  const bool unknown = limit == 0;
  return unknown || used + operations <= limit ? std::string() : shortage(operations);
}

void leave_aio_contexts() noexcept { contexts_are_left.store(true, std::memory_order_relaxed); }

// Owns the kernel's side; nothing is in flight when it goes. That takes the kernel tens of
// milliseconds (it waits for other processors), so a thread of the pool does it where somebody
// would wait.
class AioQueue::Context final : public BlockingPool::Job {
 public:
  explicit Context(io_context_t context) noexcept : context_(context) {}
  ~Context() {
    if (!contexts_are_left.load(std::memory_order_relaxed)) ::io_destroy(context_);
  }
  Context(const Context&) = delete;
  Context& operator=(const Context&) = delete;
  io_context_t get() const noexcept { return context_; }
  void run() noexcept override { delete this; }

 private:
  io_context_t context_;
};

AioQueue::AioQueue(BackingFile& file, BlockingPool& pool, std::size_t depth_max,
                   HarvestBy harvest_by)
    : FileQueue(file, pool),
      pool_(pool),
      depth_max_(depth_max),
      harvest_by_(harvest_by),
      nowait_(file.traits().nowait) {
  batch_.reserve(depth_max);
}

AioQueue::~AioQueue() = default;

// False: the system has no room for it.
bool AioQueue::open_context() noexcept {
  const auto now = std::chrono::steady_clock::now();
  if (now < context_again_) return false;
  io_context_t context = nullptr;
  const int error = ::io_setup(static_cast<int>(depth_max_), &context);
  if (error < 0) {
    context_again_ = now + context_pause;
    file_.note_no_context(setup_failure(depth_max_, -error));
    return false;
  }
  context_ = std::make_unique<Context>(context);
  const AioRing ring(context);
  if (harvest_by_ == HarvestBy::ring && ring.usable()) ring_ = ring;
  return true;
}

void AioQueue::suspend() noexcept {
  LOOPNBD_ASSERT(in_flight() == 0);
  ring_.reset();
  if (context_ != nullptr) pool_.run(*context_.release());
}

void AioQueue::flush() noexcept {
  if (context_ == nullptr && !waiting_.empty() && !open_context()) {
    while (Io* const io = waiting_.pop_front()) lane_.start(*io);
    return;
  }
  submit_batch();
  wake_for_finished();
  LOOPNBD_ASSERT(invariants());
}

void AioQueue::submit_batch() noexcept {
  while (in_kernel_ + batch_.size() < depth_max_ && !waiting_.empty())
    dispatch(*waiting_.pop_front());

  const bool answer_early = ring_ && batch_.size() <= answered_early_max;
  std::size_t done = 0;
  while (done < batch_.size()) {
    const auto count = static_cast<long>(std::min(batch_.size() - done, submitted_at_once));
    const int taken = ::io_submit(context_->get(), count, &batch_[done]);
    if (taken > 0) {
      done += static_cast<std::size_t>(taken);
      in_kernel_ += static_cast<std::size_t>(taken);
      // Done already: their replies go out first, so that the client works meanwhile. harvest()
      // goes on here, and these are what it is woken for.
      if (answer_early && !ring_->empty()) break;
      continue;
    }
    // No room: completions make some, and harvest() goes on here.
    if ((taken == 0 || taken == -EAGAIN) && in_kernel_ > 0) break;
    refuse(*static_cast<Io*>(batch_[done++]->data), taken);  // the first one is the faulty one
  }
  batch_.erase(batch_.begin(), batch_.begin() + static_cast<std::ptrdiff_t>(done));
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
  if (transfer && nowait_ && io.length > file_.traits().nowait_length_max)
    return submit_from_pool(io);
  prepare(io);
}

void AioQueue::prepare(Io& io) noexcept {
  batch_.push_back(&IoAccess::emplace<iocb>(io, make_iocb(io, nowait_)));
}

iocb AioQueue::make_iocb(Io& io, bool nowait) const noexcept {
  iocb block{};  // the kernel wants the fields that a sync does not use to be zero
  block.data = &io;
  block.aio_fildes = file_.fd_for(0);
  ::io_set_eventfd(&block, wakeup_.get());
  if (io.operation == Operation::flush) {
    block.aio_lio_opcode = IO_CMD_FDSYNC;
    return block;
  }
  const bool write = io.operation == Operation::write;
  block.aio_lio_opcode = write ? IO_CMD_PWRITE : IO_CMD_PREAD;
  block.u.c.buf = io.buffer;
  block.u.c.nbytes = io.length;
  block.u.c.offset = static_cast<long long>(file_.file_offset(io.offset));
  block.aio_rw_flags = (nowait ? RWF_NOWAIT : 0) | (write && io.fua ? RWF_DSYNC : 0);
  return block;
}

// For what io_submit might block on: locks of the inode, the allocation of blocks, a device without
// a free request. It does so for the submission only, so that no thread of the pool, and no lock
// of a file system that has to allocate, is held while the device works.
void AioQueue::submit_from_pool(Io& io) noexcept {
  // File systems that allocate late may say in a sync that there is no space. The lane knows.
  if (io.fua) return lane_.start(io);
  ++in_kernel_;
  pool_.run(IoAccess::emplace<Submission>(io, *this, io));
}

void AioQueue::submit_on_pool_thread(Io& io) noexcept {
  iocb block = make_iocb(io, false);
  std::array<iocb*, 1> batch{&block};
  const auto context = context_->get();
  submissions_.fetch_add(1, std::memory_order_release);
  // Once taken, it may complete, and the queue be destroyed, before this returns.
  if (::io_submit(context, batch.size(), batch.data()) == 1) return;
  refusals_.fetch_add(1, std::memory_order_relaxed);
  lane_.start(io);  // which meets the same error, or none
}

// The kernel has not taken it: -EAGAIN for want of memory, -EOPNOTSUPP for a flag, or an error of
// the operation. A sync that is refused, with whatever error, has not happened.
void AioQueue::refuse(Io& io, int error) noexcept {
  if (error == -EOPNOTSUPP) nowait_ = false;
  const bool pool_can = error == 0 || error == -EAGAIN || error == -EOPNOTSUPP;
  if (pool_can) return lane_.start(io);
  finish_later(io, io.operation == Operation::flush ? file_.note_sync_failure(error) : error);
}

std::size_t AioQueue::harvest() noexcept {
  const auto by_kernel = ring_ ? harvest_ring() : harvest_system_call();
  const auto finished = harvest_finished();
  // Refused operations came back by the lane, and what happened before that is seen by now.
  if (finished > 0) in_kernel_ -= refusals_.exchange(0, std::memory_order_relaxed);
  // Operations that waited for room or that complete() has submitted: nothing may be left to wake
  // for them.
  if (!waiting_.empty() || !batch_.empty()) flush();
  LOOPNBD_ASSERT(invariants());
  return by_kernel + finished;
}

std::size_t AioQueue::harvest_ring() noexcept {
  std::size_t count = 0;
  io_event event;
  while (ring_->pop(event)) {
    count += settle(event) ? 1U : 0U;
  }
  return count;
}

std::size_t AioQueue::harvest_system_call() noexcept {
  std::size_t count = 0;
  std::array<io_event, events_at_once> events;
  while (in_kernel_ > 0) {
    timespec at_once{0, 0};
    const int got = ::io_getevents(context_->get(), 0, events_at_once, events.data(), &at_once);
    if (got == -EINTR) continue;
    if (got <= 0) break;
    for (const auto& event : std::span(events).first(static_cast<std::size_t>(got)))
      count += settle(event) ? 1U : 0U;
  }
  return count;
}

// The kernel is done with it; false when the pool goes on with it.
bool AioQueue::settle(const io_event& event) noexcept {
  LOOPNBD_ASSERT(in_kernel_ > 0);
  --in_kernel_;
  auto& io = *static_cast<Io*>(event.data);
  const auto result = static_cast<std::int64_t>(event.res);
  if (io.operation != Operation::flush) {
    const bool from_pool = event.obj != IoAccess::memory(io);
    if (from_pool) submissions_.load(std::memory_order_acquire);
    return settle_transfer(io, result, from_pool);
  }
  // A failure that came between by another way sticks, too.
  complete(io, result < 0 ? file_.note_sync_failure(static_cast<int>(result)) : file_.sync_error());
  return true;
}

bool AioQueue::settle_transfer(Io& io, std::int64_t result, bool from_pool) noexcept {
  if (result == static_cast<std::int64_t>(io.length)) {
    complete(io, io.fua && file_.sync_error() != 0 ? file_.sync_error() : result);
    return true;
  }
  if (result == -EAGAIN || result == -EOPNOTSUPP) {
    // Nothing has been acknowledged, so that writing it again does no harm.
    if (from_pool) {
      lane_.start(io);  // RWF_NOWAIT had no part in it: the lane meets the same error, or none
    } else {
      if (result == -EOPNOTSUPP) nowait_ = false;
      // Would have blocked. Holes, pages in the cache, a fallocate under way, no free request of
      // the device: all of that is the pool's business.
      submit_from_pool(io);
    }
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

// The kernel is never given more than it was set up for.
bool AioQueue::invariants() const noexcept {
  return FileQueue::invariants() && in_kernel_ + batch_.size() <= depth_max_ &&
         batch_.size() <= in_flight();
}

}  // namespace engine
