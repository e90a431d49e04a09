// Direct I/O by libaio: a flush() is an io_submit for a few operations each, completions are read
// from the mapped ring. What io_submit would block on (RWF_NOWAIT says so) is submitted by the
// BlockingPool; what libaio cannot do (fallocate, SEEK_HOLE) and what is cut short is carried out
// there.
//
// Below FileTraits::aligned_size every read and write has offset, length and memory aligned to the
// block size and does not reach beyond it; the AligningQueue above sees to that. In the tail any
// alignment goes: those are buffered.
#pragma once

#include <libaio.h>

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <optional>
#include <vector>

#include "engine/event_fd.h"
#include "engine/file/aio_ring.h"
#include "engine/file/backing_file.h"
#include "engine/file/blocking_lane.h"
#include "engine/io_access.h"
#include "engine/io_queue.h"

namespace engine {

enum class HarvestBy : std::uint8_t {
  ring,         // the mapped ring, if it is as expected
  system_call,  // io_getevents: for tools that cannot see the kernel's writes
};

// The ring, unless the environment says LOOPNBD_AIO_RING=off or this is a build for the thread
// sanitizer.
HarvestBy default_harvest() noexcept;

class AioQueue final : public IoQueue {
 public:
  // `file` and `pool` outlive the queue. Throws std::runtime_error.
  AioQueue(BackingFile& file, BlockingPool& pool, std::size_t depth_max,
           HarvestBy harvest_by = default_harvest());
  ~AioQueue() override;

  void submit(Io& io) noexcept override;
  void flush() noexcept override;
  std::size_t harvest() noexcept override;
  int wakeup_fd() const noexcept override { return wakeup_.get(); }
  void clear_wakeup() noexcept override { wakeup_.clear(); }
  std::size_t in_flight() const noexcept override { return in_flight_; }

 private:
  // Owns the kernel's side. Destroying it waits for what the kernel still holds.
  class Context {
   public:
    explicit Context(std::size_t depth_max);
    ~Context();
    Context(const Context&) = delete;
    Context& operator=(const Context&) = delete;
    io_context_t get() const noexcept { return context_; }

   private:
    io_context_t context_ = nullptr;
  };

  class Submission;

  void dispatch(Io& io) noexcept;
  void prepare(Io& io) noexcept;
  iocb make_iocb(Io& io, bool nowait) const noexcept;
  void submit_from_pool(Io& io) noexcept;
  void submit_on_pool_thread(Io& io) noexcept;
  void refuse(Io& io, int error) noexcept;
  void finish_later(Io& io, std::int64_t result) noexcept;
  bool settle(const io_event& event) noexcept;
  bool settle_transfer(Io& io, std::int64_t result, bool from_pool) noexcept;
  void complete(Io& io, std::int64_t result) noexcept;
  std::size_t harvest_ring() noexcept;
  std::size_t harvest_system_call() noexcept;
  std::size_t harvest_finished() noexcept;
  bool invariants() const noexcept;

  BackingFile& file_;
  BlockingPool& pool_;
  const std::size_t depth_max_;
  const EventFd wakeup_;
  const Context context_;
  std::optional<AioRing> ring_;
  BlockingLane lane_;
  bool nowait_;

  IoList waiting_;  // submitted, not looked at yet
  std::vector<iocb*>
      batch_;        // prepared, not taken by the kernel yet; with in_kernel_ at most depth_max_
  IoList finished_;  // have a result without the kernel's help
  std::size_t in_kernel_ = 0;  // with those that the pool submits

  // Written by threads of the pool.
  std::atomic<std::uint64_t> submissions_{0};  // what they did before one happens before its end
  std::atomic<std::size_t> refusals_{0};       // not in the kernel after all
  std::size_t in_flight_ = 0;
};

}  // namespace engine
