// Direct I/O by libaio: a flush() is an io_submit for a few operations each, completions are read
// from the mapped ring. The BlockingPool submits what io_submit would block on (RWF_NOWAIT says
// so); what libaio cannot do (fallocate, SEEK_HOLE) and what is cut short is carried out there.
//
// The kernel's context takes room that all processes of the system share. It is there from the
// first flush() with something in it until suspend(). Where the system has no room, threads of the
// pool do all the work, and now and then a context is asked for again.
//
// Below FileTraits::aligned_size every read and write has offset, length and memory aligned to the
// block size and does not reach beyond it; the AligningQueue above sees to that. In the tail any
// alignment goes: those are buffered.
#pragma once

#include <libaio.h>

#include <atomic>
#include <chrono>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "engine/file/aio_ring.h"
#include "engine/file/file_queue.h"

namespace engine {

enum class HarvestBy : std::uint8_t {
  ring,         // the mapped ring, if it is as expected
  system_call,  // io_getevents: for tools that cannot see the kernel's writes
};

// The ring, unless the environment says LOOPNBD_AIO_RING=off or this is a build for the thread
// sanitizer.
HarvestBy default_harvest() noexcept;

// Why this process can have no asynchronous I/O at all: the -errno of io_setup (ENOSYS: the kernel
// is built without it; EPERM: a filter of system calls forbids it), or 0.
int aio_unavailable() noexcept;

// Why the system has no room for so many more operations, with what to do; empty: it has. A moment
// later that may be different.
std::string aio_shortage(std::size_t operations);

// The process ends as soon as its devices are gone: contexts are left to the kernel, which is done
// with all of them in the time that we need for one.
void leave_aio_contexts() noexcept;

class AioQueue final : public FileQueue {
 public:
  // `file` and `pool` outlive the queue. Throws std::system_error.
  AioQueue(BackingFile& file, BlockingPool& pool, std::size_t depth_max,
           HarvestBy harvest_by = default_harvest());
  ~AioQueue() override;

  void flush() noexcept override;
  std::size_t harvest() noexcept override;
  void suspend() noexcept override;

 private:
  class Context;
  class Submission;

  bool open_context() noexcept;
  void submit_batch() noexcept;
  void dispatch(Io& io) noexcept;
  void prepare(Io& io) noexcept;
  iocb make_iocb(Io& io, bool nowait) const noexcept;
  void submit_from_pool(Io& io) noexcept;
  void submit_on_pool_thread(Io& io) noexcept;
  void refuse(Io& io, int error) noexcept;
  bool settle(const io_event& event) noexcept;
  bool settle_transfer(Io& io, std::int64_t result, bool from_pool) noexcept;
  std::size_t harvest_ring() noexcept;
  std::size_t harvest_system_call() noexcept;
  bool invariants() const noexcept;

  BlockingPool& pool_;
  const std::size_t depth_max_;
  const HarvestBy harvest_by_;
  std::unique_ptr<Context> context_;  // absent: suspended, or the system has no room
  std::optional<AioRing> ring_;
  std::chrono::steady_clock::time_point context_again_;  // not asked for before
  bool nowait_;

  // Prepared, not taken by the kernel yet; with in_kernel_ at most depth_max_.
  std::vector<iocb*> batch_;
  std::size_t in_kernel_ = 0;  // with those that the pool submits

  // Written by threads of the pool.
  std::atomic<std::uint64_t> submissions_{0};  // what they did before one happens before its end
  std::atomic<std::size_t> refusals_{0};       // not in the kernel after all
};

}  // namespace engine
