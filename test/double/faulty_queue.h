// A decorator for tests that makes any queue behave badly within its contract: completions late and
// out of order, errors, failed syncs, writes that die half way. Everything random comes from a
// seed. A Faults object is the remote control; it may be used from any thread, and outlives the
// queues.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <random>
#include <vector>

#include "engine/io_queue.h"
#include "engine/mutex.h"

namespace engine {

class FaultyQueue;

// The faults that happen at random. Percentages are of the operations.
struct FaultPlan {
  std::uint64_t seed = 1;      // each queue derives its own from it
  unsigned delay_percent = 0;  // held back, half of them before they start, half when they are done
  unsigned delay_harvests_max = 8;  // for how long, in calls of harvest()
  unsigned error_percent = 0;       // fail with EIO without having started
  unsigned torn_percent = 0;        // of the writes: see Faults::tear_next_write()
  bool reorder = false;             // what is due at the same time completes in random order
};

class Faults {
 public:
  // Where operations are kept from going on by hold().
  enum class Hold : std::uint8_t { nothing, starts, completions };

  explicit Faults(const FaultPlan& plan = {}) : plan_(plan) {}
  Faults(const Faults&) = delete;
  Faults& operator=(const Faults&) = delete;

  // The next `count` operations of this kind that are submitted fail with `error` without having
  // started.
  void fail_next(Operation operation, int error, std::size_t count = 1);
  // Only whole blocks of a first part of the next write reach the device; then it fails with EIO.
  void tear_next_write();
  // Every flush, and every operation with FUA, runs and then fails with `error`. 0: no longer.
  void fail_syncs(int error);
  int sync_error() const;

  // Operations stop before they start, or when they are done, until they are released.
  void hold(Hold what);
  void release(std::size_t count);  // the next `count`, of whichever queue comes first
  void release_all();               // and hold no more
  // Waits until at least so many are held at once. False: it took more than ten seconds.
  bool wait_for_held(std::size_t count);
  std::size_t held_count() const;

  // How many operations failed, or will fail, by one of the means above.
  std::uint64_t failures() const;

 private:
  friend class FaultyQueue;

  struct Fate {
    int error = 0;       // fails at once
    int late_error = 0;  // runs, and then fails
    bool torn = false;
    unsigned start_delay = 0;       // harvests
    unsigned completion_delay = 0;  // harvests
  };

  using Random = std::mt19937_64;

  Random add(const FaultyQueue& queue);
  void remove(const FaultyQueue& queue);
  Fate choose_fate(const Io& io, Random& random);
  bool may_pass(Hold place);
  void set_held(std::size_t before, std::size_t now);
  void wake_queues() LOOPNBD_REQUIRES(mutex_);

  const FaultPlan plan_;
  mutable Mutex mutex_;
  ConditionVariable held_changed_;
  std::vector<const FaultyQueue*> queues_ LOOPNBD_GUARDED_BY(mutex_);
  std::uint64_t queue_count_ LOOPNBD_GUARDED_BY(mutex_) = 0;                   // ever made
  std::array<std::vector<int>, 7> errors_to_come_ LOOPNBD_GUARDED_BY(mutex_);  // by operation
  std::size_t tears_to_come_ LOOPNBD_GUARDED_BY(mutex_) = 0;
  int sync_error_ LOOPNBD_GUARDED_BY(mutex_) = 0;
  Hold hold_ LOOPNBD_GUARDED_BY(mutex_) = Hold::nothing;
  std::size_t tickets_ LOOPNBD_GUARDED_BY(mutex_) = 0;  // may pass although there is a hold
  std::size_t held_ LOOPNBD_GUARDED_BY(mutex_) = 0;     // in all queues
  std::uint64_t failures_ LOOPNBD_GUARDED_BY(mutex_) = 0;
};

class FaultyQueue final : public IoQueue {
 public:
  // `block_size`: where a torn write may tear. The wakeup_fd() of `inner` has to be an eventfd.
  FaultyQueue(std::unique_ptr<IoQueue> inner, std::uint32_t block_size, Faults& faults);
  ~FaultyQueue() override;
  FaultyQueue(const FaultyQueue&) = delete;
  FaultyQueue& operator=(const FaultyQueue&) = delete;

  void submit(Io& io) noexcept override;
  void flush() noexcept override;
  std::size_t harvest() noexcept override;
  int wakeup_fd() const noexcept override { return inner_->wakeup_fd(); }
  void clear_wakeup() noexcept override { inner_->clear_wakeup(); }
  std::size_t in_flight() const noexcept override { return in_flight_; }

 private:
  class Shadow;

  Shadow& take_shadow();
  bool tear(Shadow& shadow) const noexcept;
  bool start_due();
  std::size_t complete_due();
  void inner_done(Shadow& shadow, std::int64_t result) noexcept;
  void count_held();

  const std::unique_ptr<IoQueue> inner_;
  const std::uint32_t block_size_;
  Faults& faults_;
  Faults::Random random_;
  std::vector<std::unique_ptr<Shadow>> shadows_;
  std::vector<Shadow*> free_shadows_;
  std::vector<Shadow*> submitted_;  // since the last flush()
  std::vector<Shadow*> to_start_;
  std::vector<Shadow*> to_complete_;
  std::size_t in_flight_ = 0;
  std::size_t held_ = 0;    // as told to faults_
  std::uint64_t turn_ = 0;  // calls of harvest()
};

}  // namespace engine
