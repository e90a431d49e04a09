// Keeps a read-modify-write of a block apart from every other write of it, on whichever queue. One
// RangeLock per device; each queue has a Participant, used by the queue's thread. Nothing here ever
// waits: who cannot have a range now finds it in next_granted() later.
//
// Most devices only ever see aligned writes, which need no lock among themselves. They only count
// themselves, each participant for itself, until the first sub-block write is seen. That one waits
// for the counted writes; from then on every write claims its range. range_lock.cpp argues why no
// write slips between.
#pragma once

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <vector>

#include "engine/mutex.h"

namespace engine {

class RangeLock {
 public:
  class Participant;

  // A range, wanted or held. Its owner keeps it in place from claim() until release().
  class Claim {
   public:
    Claim() = default;
    Claim(const Claim&) = delete;
    Claim& operator=(const Claim&) = delete;

   protected:
    ~Claim() = default;

   private:
    friend class RangeLock;
    friend class Participant;
    std::uint64_t begin_ = 0;  // bytes; the range is [begin_, end_)
    std::uint64_t end_ = 0;
    Participant* owner_ = nullptr;
    std::uint32_t conflicts_ = 0;  // overlapping claims that are older and still there
    bool granted_ = false;
    Claim* older_ = nullptr;  // neighbours in the order of arrival
    Claim* newer_ = nullptr;
    Claim* next_granted_ = nullptr;
  };

  RangeLock() = default;
  // The participants are gone by then.
  ~RangeLock() = default;
  RangeLock(const RangeLock&) = delete;
  RangeLock& operator=(const RangeLock&) = delete;

 private:
  void add(Participant& participant);
  void remove(Participant& participant) noexcept;
  bool claim(Claim& claim, bool sub_block) noexcept;
  void release(Claim& claim) noexcept;
  void recheck_counted_writes() noexcept;
  bool counted_writes_in_flight() const noexcept LOOPNBD_REQUIRES(mutex_);
  void unlink(Claim& claim) noexcept LOOPNBD_REQUIRES(mutex_);
  bool overlaps(const Claim& one, const Claim& other) const noexcept;
  bool invariants() const noexcept LOOPNBD_REQUIRES(mutex_);
  void grant(Claim& claim, const Participant* caller) noexcept LOOPNBD_REQUIRES(mutex_);

  Mutex mutex_;
  std::vector<Participant*> participants_ LOOPNBD_GUARDED_BY(mutex_);
  Claim* oldest_ LOOPNBD_GUARDED_BY(mutex_) = nullptr;
  Claim* newest_ LOOPNBD_GUARDED_BY(mutex_) = nullptr;
  // Counted writes from before the first sub-block write may be in flight.
  bool draining_ LOOPNBD_GUARDED_BY(mutex_) = false;
  std::atomic<bool> sub_block_writes_seen_{false};  // set under mutex_, never cleared, read by all
};

class RangeLock::Participant {
 public:
  // `wakeup_fd`: an eventfd, written to when another participant's release grants a claim of this
  // one.
  Participant(RangeLock& lock, int wakeup_fd);
  // Nothing is counted, claimed or held.
  ~Participant();
  Participant(const Participant&) = delete;
  Participant& operator=(const Participant&) = delete;

  // For a write of whole blocks: true means it may start without a claim, and end_counted() follows
  // when it is done. False means that it must claim its range.
  bool begin_counted() noexcept;
  void end_counted() noexcept;

  // Asks for [begin, end), not empty and of whole blocks. True: it is held. False: next_granted()
  // will return it. Overlapping claims are granted in the order in which they came. `sub_block`: a
  // read-modify-write.
  bool claim(Claim& claim, std::uint64_t begin, std::uint64_t end, bool sub_block) noexcept;
  void release(Claim& claim) noexcept;

  // A claim that came to be held since; nullptr: no more now. To be asked after each batch of
  // releases: grants among the claims of one participant do not signal its wakeup_fd.
  Claim* next_granted() noexcept;

 private:
  friend class RangeLock;

  RangeLock& lock_;
  const int wakeup_fd_;
  // Counted writes in flight. Written by the owning thread only; on a cache line that others seldom
  // read.
  alignas(64) std::atomic<std::size_t> counted_{0};
  Claim* taken_ = nullptr;  // granted and already fetched; owning thread only
  alignas(64) std::atomic<bool> has_granted_{false};  // written under the lock's mutex
  Claim* first_granted_ LOOPNBD_GUARDED_BY(lock_.mutex_) = nullptr;
  Claim* last_granted_ LOOPNBD_GUARDED_BY(lock_.mutex_) = nullptr;
};

}  // namespace engine
