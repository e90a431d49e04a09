#include "engine/align/range_lock.h"

#include <algorithm>
#include <cassert>

#include "engine/check.h"
#include "engine/event_fd.h"

// Why no counted write slips past the first sub-block write. All four steps are sequentially
// consistent, so they have one order that everybody agrees on:
//
//     a counted write                        the first sub-block write
//     W1  counted_ = counted_ + 1            R1  sub_block_writes_seen_ = true
//     W2  read sub_block_writes_seen_        R2  read counted_
//
// If W2 reads false it comes before R1, hence W1 before R2: the sub-block write sees the count and
// waits. If W2 reads true the write takes its count back and claims its range. The end of the
// waiting is the same argument with the store of the smaller count in the place of W1: either R2
// sees zero, or the writer sees the flag and calls recheck_counted_writes(). Counts that rise once
// the flag is up belong to writes that are about to take them back.

namespace engine {

void RangeLock::add(Participant& participant) {
  const MutexLock lock(mutex_);
  participants_.push_back(&participant);
}

void RangeLock::remove(Participant& participant) noexcept {
  const MutexLock lock(mutex_);
  participants_.erase(std::find(participants_.begin(), participants_.end(), &participant));
}

bool RangeLock::counted_writes_in_flight() const noexcept {
  return std::any_of(participants_.begin(), participants_.end(),
                     [](const Participant* participant) {
                       return participant->counted_.load(std::memory_order_seq_cst) != 0;
                     });
}

bool RangeLock::claim(Claim& claim, bool sub_block) noexcept {
  const MutexLock lock(mutex_);
  if (sub_block && !sub_block_writes_seen_.load(std::memory_order_relaxed)) {
    sub_block_writes_seen_.store(true, std::memory_order_seq_cst);
    draining_ = counted_writes_in_flight();
  }
  claim.conflicts_ = 0;
  for (const Claim* other = oldest_; other != nullptr; other = other->newer_) {
    LOOPNBD_ASSERT(other != &claim);
    if (overlaps(*other, claim)) ++claim.conflicts_;
  }
  claim.older_ = newest_;
  claim.newer_ = nullptr;
  (newest_ != nullptr ? newest_->newer_ : oldest_) = &claim;
  newest_ = &claim;
  claim.granted_ = claim.conflicts_ == 0 && !draining_;
  LOOPNBD_ASSERT(invariants());
  return claim.granted_;
}

void RangeLock::release(Claim& claim) noexcept {
  const MutexLock lock(mutex_);
  assert(claim.granted_);
  Claim* const first_newer = claim.newer_;
  unlink(claim);
  for (Claim* other = first_newer; other != nullptr; other = other->newer_) {
    if (!overlaps(*other, claim)) continue;
    LOOPNBD_ASSERT(other->conflicts_ > 0 && !other->granted_);
    if (--other->conflicts_ == 0 && !draining_) grant(*other, claim.owner_);
  }
  LOOPNBD_ASSERT(invariants());
}

void RangeLock::recheck_counted_writes() noexcept {
  const MutexLock lock(mutex_);
  if (!draining_ || counted_writes_in_flight()) return;
  draining_ = false;
  for (Claim* claim = oldest_; claim != nullptr; claim = claim->newer_) {
    if (claim->conflicts_ == 0 && !claim->granted_) grant(*claim, nullptr);
  }
  LOOPNBD_ASSERT(invariants());
}

void RangeLock::unlink(Claim& claim) noexcept {
  (claim.older_ != nullptr ? claim.older_->newer_ : oldest_) = claim.newer_;
  (claim.newer_ != nullptr ? claim.newer_->older_ : newest_) = claim.older_;
}

bool RangeLock::overlaps(const Claim& one, const Claim& other) const noexcept {
  return one.begin_ < other.end_ && other.begin_ < one.end_;
}

// A claim is granted exactly when no older one overlaps it and no counted write is waited for, and
// the list is linked in both directions. The overlaps are counted anew for the youngest claim only,
// so that a check costs no more than the transition that it follows.
bool RangeLock::invariants() const noexcept {
  const Claim* older = nullptr;
  for (const Claim* claim = oldest_; claim != nullptr; older = claim, claim = claim->newer_) {
    if (claim->older_ != older || claim->begin_ >= claim->end_ || claim->owner_ == nullptr)
      return false;
    if (claim->granted_ != (claim->conflicts_ == 0 && !draining_)) return false;
  }
  if (newest_ != older) return false;
  if (newest_ == nullptr) return true;
  std::uint32_t conflicts = 0;
  for (const Claim* claim = oldest_; claim != newest_; claim = claim->newer_)
    conflicts += overlaps(*claim, *newest_) ? 1U : 0U;
  return conflicts == newest_->conflicts_;
}

// The signal is sent under the mutex: once that is free, the owner may take the grant, be done and
// close its eventfd.
void RangeLock::grant(Claim& claim, const Participant* caller) noexcept {
  Participant& owner = *claim.owner_;
  owner.lock_.mutex_.assert_held();  // its lock is this one
  claim.granted_ = true;
  claim.next_granted_ = nullptr;
  const bool first = owner.first_granted_ == nullptr;
  (first ? owner.first_granted_ : owner.last_granted_->next_granted_) = &claim;
  owner.last_granted_ = &claim;
  owner.has_granted_.store(true, std::memory_order_release);
  if (first && &owner != caller) EventFd::signal(owner.wakeup_fd_);
}

RangeLock::Participant::Participant(RangeLock& lock, int wakeup_fd)
    : lock_(lock), wakeup_fd_(wakeup_fd) {
  lock_.add(*this);
}

RangeLock::Participant::~Participant() {
  assert(counted_.load(std::memory_order_relaxed) == 0 && taken_ == nullptr);
  lock_.remove(*this);
}

bool RangeLock::Participant::begin_counted() noexcept {
  if (lock_.sub_block_writes_seen_.load(std::memory_order_relaxed)) return false;
  const auto count = counted_.load(std::memory_order_relaxed);
  counted_.store(count + 1, std::memory_order_seq_cst);
  if (!lock_.sub_block_writes_seen_.load(std::memory_order_seq_cst)) return true;
  end_counted();
  return false;
}

void RangeLock::Participant::end_counted() noexcept {
  const auto count = counted_.load(std::memory_order_relaxed);
  assert(count > 0);
  counted_.store(count - 1, std::memory_order_seq_cst);
  if (count == 1 && lock_.sub_block_writes_seen_.load(std::memory_order_seq_cst))
    lock_.recheck_counted_writes();
}

bool RangeLock::Participant::claim(Claim& claim, std::uint64_t begin, std::uint64_t end,
                                   bool sub_block) noexcept {
  assert(begin < end);
  claim.begin_ = begin;
  claim.end_ = end;
  claim.owner_ = this;
  return lock_.claim(claim, sub_block);
}

void RangeLock::Participant::release(Claim& claim) noexcept { lock_.release(claim); }

RangeLock::Claim* RangeLock::Participant::next_granted() noexcept {
  if (taken_ == nullptr) {
    if (!has_granted_.load(std::memory_order_acquire)) return nullptr;
    const MutexLock lock(lock_.mutex_);
    taken_ = first_granted_;
    first_granted_ = nullptr;
    last_granted_ = nullptr;
    has_granted_.store(false, std::memory_order_relaxed);
  }
  Claim* const claim = taken_;
  taken_ = claim->next_granted_;
  return claim;
}

}  // namespace engine
