#include "test/double/faulty_queue.h"

#include <algorithm>
#include <cassert>
#include <cerrno>
#include <chrono>
#include <utility>

#include "engine/event_fd.h"

namespace engine {

// Goes through the inner queue in the place of an operation, which completes when its fate says so.
class FaultyQueue::Shadow final : public Io {
 public:
  void complete(std::int64_t inner_result) noexcept override {
    queue->inner_done(*this, inner_result);
  }

  FaultyQueue* queue = nullptr;
  Io* original = nullptr;
  Faults::Fate fate;
  std::uint64_t due = 0;  // turn
  std::int64_t result = 0;
};

void Faults::fail_next(Operation operation, int error, std::size_t count) {
  const MutexLock lock(mutex_);
  auto& errors = errors_to_come_[static_cast<std::size_t>(operation)];
  errors.insert(errors.end(), count, error);
}

void Faults::tear_next_write() {
  const MutexLock lock(mutex_);
  ++tears_to_come_;
}

void Faults::fail_syncs(int error) {
  const MutexLock lock(mutex_);
  sync_error_ = error;
}

int Faults::sync_error() const {
  const MutexLock lock(mutex_);
  return sync_error_;
}

void Faults::hold(Hold what) {
  const MutexLock lock(mutex_);
  hold_ = what;
  tickets_ = 0;
  wake_queues();
}

void Faults::release(std::size_t count) {
  const MutexLock lock(mutex_);
  tickets_ += count;
  wake_queues();
}

void Faults::release_all() { hold(Hold::nothing); }

std::size_t Faults::held_count() const {
  const MutexLock lock(mutex_);
  return held_;
}

bool Faults::wait_for_held(std::size_t count) {
  const auto deadline = std::chrono::steady_clock::now() + std::chrono::seconds(10);
  const MutexLock lock(mutex_);
  while (held_ < count)
    if (!held_changed_.wait_until(mutex_, deadline)) return held_ >= count;
  return true;
}

std::uint64_t Faults::failures() const {
  const MutexLock lock(mutex_);
  return failures_;
}

Faults::Random Faults::add(const FaultyQueue& queue) {
  const MutexLock lock(mutex_);
  queues_.push_back(&queue);
  return Random(plan_.seed * 1'000'003 + queue_count_++);
}

void Faults::remove(const FaultyQueue& queue) {
  const MutexLock lock(mutex_);
  queues_.erase(std::find(queues_.begin(), queues_.end(), &queue));
}

// The same number of draws for each operation, so that one seed means the same for one sequence.
Faults::Fate Faults::choose_fate(const Io& io, Random& random) {
  const MutexLock lock(mutex_);
  const auto error_draw = random() % 100;
  const auto torn_draw = random() % 100;
  const auto delay_draw = random() % 100;
  const auto delay = static_cast<unsigned>(1 + random() % std::max(plan_.delay_harvests_max, 1U));
  const bool before = random() % 2 == 0;

  Fate fate;
  auto& errors = errors_to_come_[static_cast<std::size_t>(io.operation)];
  if (!errors.empty()) {
    fate.error = errors.front();
    errors.erase(errors.begin());
  } else if (error_draw < plan_.error_percent) {
    fate.error = EIO;
  } else if (io.operation == Operation::write && tears_to_come_ > 0) {
    --tears_to_come_;
    fate.torn = true;
  } else if (io.operation == Operation::write && torn_draw < plan_.torn_percent) {
    fate.torn = true;
  } else if (io.operation == Operation::flush || io.fua) {
    fate.late_error = sync_error_;
  }
  if (fate.error != 0 || fate.late_error != 0 || fate.torn) ++failures_;
  if (delay_draw < plan_.delay_percent) (before ? fate.start_delay : fate.completion_delay) = delay;
  return fate;
}

bool Faults::may_pass(Hold place) {
  const MutexLock lock(mutex_);
  if (hold_ != place) return true;
  if (tickets_ == 0) return false;
  --tickets_;
  return true;
}

void Faults::set_held(std::size_t before, std::size_t now) {
  if (before == now) return;
  const MutexLock lock(mutex_);
  held_ = held_ - before + now;
  held_changed_.notify_all();
}

void Faults::wake_queues() {
  for (const FaultyQueue* queue : queues_) EventFd::signal(queue->wakeup_fd());
}

FaultyQueue::FaultyQueue(std::unique_ptr<IoQueue> inner, std::uint32_t block_size, Faults& faults)
    : inner_(std::move(inner)),
      block_size_(block_size),
      faults_(faults),
      random_(faults.add(*this)) {}

FaultyQueue::~FaultyQueue() {
  assert(in_flight_ == 0);
  faults_.set_held(held_, 0);
  faults_.remove(*this);
}

FaultyQueue::Shadow& FaultyQueue::take_shadow() {
  if (free_shadows_.empty()) {
    shadows_.push_back(std::make_unique<Shadow>());
    free_shadows_.push_back(shadows_.back().get());
  }
  Shadow& shadow = *free_shadows_.back();
  free_shadows_.pop_back();
  return shadow;
}

void FaultyQueue::submit(Io& io) noexcept {
  Shadow& shadow = take_shadow();
  shadow.queue = this;
  shadow.original = &io;
  shadow.set_request(io);
  shadow.fate = faults_.choose_fate(io, random_);
  ++in_flight_;
  submitted_.push_back(&shadow);
}

void FaultyQueue::flush() noexcept {
  for (Shadow* shadow : std::exchange(submitted_, {})) {
    shadow->due = turn_ + shadow->fate.start_delay;
    to_start_.push_back(shadow);
  }
  start_due();
  inner_->flush();
  // Operations that could not start, or failed at once, are for harvest() to look at.
  if (!to_start_.empty() || !to_complete_.empty()) EventFd::signal(wakeup_fd());
}

// Shortens a write to whole blocks of its first half. False: nothing is left of it.
bool FaultyQueue::tear(Shadow& shadow) const noexcept {
  const std::uint64_t middle = shadow.offset + shadow.length / 2;
  const std::uint64_t end = middle - middle % block_size_;
  if (end <= shadow.offset) return false;
  shadow.length = end - shadow.offset;
  return true;
}

// True: something was handed to the inner queue or is done.
bool FaultyQueue::start_due() {
  bool any = false;
  std::vector<Shadow*> later;
  for (Shadow* shadow : std::exchange(to_start_, {})) {
    if (shadow->due > turn_ || !faults_.may_pass(Faults::Hold::starts)) {
      later.push_back(shadow);
      continue;
    }
    any = true;
    const bool runs = shadow->fate.error == 0 && (!shadow->fate.torn || tear(*shadow));
    if (runs)
      inner_->submit(*shadow);
    else
      inner_done(*shadow, 0);
  }
  to_start_ = std::move(later);
  return any;
}

void FaultyQueue::inner_done(Shadow& shadow, std::int64_t result) noexcept {
  const Faults::Fate& fate = shadow.fate;
  shadow.result = fate.error != 0        ? -fate.error
                  : fate.torn            ? -EIO
                  : fate.late_error != 0 ? -fate.late_error
                                         : result;
  shadow.due = turn_ + fate.completion_delay;
  to_complete_.push_back(&shadow);
}

std::size_t FaultyQueue::complete_due() {
  std::vector<Shadow*> now;
  std::vector<Shadow*> later;
  if (faults_.plan_.reorder) std::shuffle(to_complete_.begin(), to_complete_.end(), random_);
  for (Shadow* shadow : std::exchange(to_complete_, {})) {
    const bool passes = shadow->due <= turn_ && faults_.may_pass(Faults::Hold::completions);
    (passes ? now : later).push_back(shadow);
  }
  to_complete_ = std::move(later);
  count_held();
  for (Shadow* shadow : now) {
    Io& original = *shadow->original;
    free_shadows_.push_back(shadow);
    --in_flight_;
    original.complete(shadow->result);
  }
  return now.size();
}

// Operations that are due and still here are held. The others ask for another turn, as a device
// would with its next completion.
void FaultyQueue::count_held() {
  std::size_t held = 0;
  bool waiting = false;
  for (const auto* list : {&to_start_, &to_complete_}) {
    for (const Shadow* shadow : *list) (shadow->due <= turn_ ? held += 1 : waiting = true);
  }
  faults_.set_held(std::exchange(held_, held), held);
  if (waiting) EventFd::signal(wakeup_fd());
}

std::size_t FaultyQueue::harvest() noexcept {
  ++turn_;
  inner_->harvest();
  if (start_due()) inner_->flush();
  return complete_due();
}

}  // namespace engine
