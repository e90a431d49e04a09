#include "engine/align/aligning_queue.h"

#include <algorithm>
#include <array>
#include <bit>
#include <cassert>
#include <cerrno>
#include <cstring>
#include <new>

#include "engine/buffer_pool.h"
#include "engine/check.h"
#include "engine/event_fd.h"
#include "engine/rounding.h"

namespace engine {

// One operation of the inner queue, on behalf of a task.
class AligningQueue::Part final : public Io {
 public:
  void complete(std::int64_t result) noexcept override { queue->part_done(*this, result); }

  AligningQueue* queue = nullptr;
  Task* task = nullptr;
};

// The next thing that is asked of the inner queue. Each stage ends when all of its parts have
// completed; a stage without parts is skipped, and an error ends the task.
//
//     read            transfer
//     write           read_edges  transfer
//     discard         middle  transfer (the tail)
//     write_zeroes    middle  transfer (what the middle leaves of whole blocks, the tail)
//                     read_edges  write_edges
enum class AligningQueue::Stage : std::uint8_t { middle, read_edges, transfer, write_edges, done };

// On the whole blocks of an operation's range below aligned_size. Lives in the operation, which is
// not handed down while it has one.
class AligningQueue::RangeClaim final : public RangeLock::Claim {
 public:
  explicit RangeClaim(Io& of) noexcept : io(&of) {}

  Io* io;
};

// An operation that takes more than handing it down.
struct AligningQueue::Task final {
  Io* original = nullptr;
  std::uint64_t begin = 0;  // [begin, end): the range below aligned_size; never empty
  std::uint64_t end = 0;
  std::uint64_t tail_end = 0;  // [aligned_size, tail_end): the range in the tail; may be empty
  Access access = Access::none;
  Stage stage = Stage::done;         // the next one
  std::size_t outstanding = 0;       // parts in flight
  std::int64_t error = 0;            // of the first part that failed
  std::byte* head_block = nullptr;   // memory of one block each, for the first block of the range
  std::byte* final_block = nullptr;  // and the last
  std::size_t part_count = 0;        // in use in this stage
  std::array<Part, 3> parts;
};

namespace {

bool moves_bytes(const Io& io) noexcept {
  return io.operation == Operation::read || io.operation == Operation::write;
}

bool zeroes(const Io& io) noexcept {
  return io.operation == Operation::discard || io.operation == Operation::write_zeroes;
}

}  // namespace

std::uint64_t AligningQueue::round_down(std::uint64_t offset) const noexcept {
  return engine::round_down(offset, alignment_.block_size);
}
std::uint64_t AligningQueue::round_up(std::uint64_t offset) const noexcept {
  return engine::round_up(offset, alignment_.block_size);
}

AligningQueue::Memory AligningQueue::make_memory(std::size_t size, std::size_t block_size) {
  const std::size_t alignment = std::max(block_size, buffer_alignment);
  auto* const memory = std::aligned_alloc(alignment, engine::round_up(size, alignment));
  if (memory == nullptr) throw std::bad_alloc();
  return Memory(static_cast<std::byte*>(memory));
}

AligningQueue::AligningQueue(std::unique_ptr<IoQueue> inner, const Alignment& alignment,
                             RangeLock& range_lock, std::size_t task_count)
    : inner_(std::move(inner)),
      alignment_(alignment),
      participant_(range_lock, inner_->wakeup_fd()),
      edge_memory_(make_memory(std::max<std::size_t>(task_count, 1) * 2 * alignment.block_size,
                               alignment.block_size)),
      zero_memory_(make_memory(alignment.zero_alignment, alignment.block_size)),
      tasks_(std::max<std::size_t>(task_count, 1)) {
  assert(std::has_single_bit(alignment.block_size));
  assert(std::has_single_bit(alignment.zero_alignment));
  assert(alignment.zero_alignment >= alignment.block_size);
  assert(alignment.zero_alignment <= buffer_size_max);
  assert(round_down(alignment.aligned_size) == alignment.aligned_size);
  assert(alignment.aligned_size <= alignment.size);
  std::memset(zero_memory_.get(), 0, alignment.zero_alignment);
  free_tasks_.reserve(tasks_.size());
  std::byte* block = edge_memory_.get();
  for (Task& task : tasks_) {
    task.head_block = std::exchange(block, block + alignment.block_size);
    task.final_block = std::exchange(block, block + alignment.block_size);
    for (Part& part : task.parts) {
      part.queue = this;
      part.task = &task;
    }
    free_tasks_.push_back(&task);
  }
  // The ones used are the ones used before: their edge memory is in the cache, the rest untouched.
  std::reverse(free_tasks_.begin(), free_tasks_.end());
}

AligningQueue::~AligningQueue() { assert(in_flight() == 0); }

std::size_t AligningQueue::in_flight() const noexcept {
  return inner_->in_flight() - parts_in_flight_ + tasks_in_flight_ + claims_waiting_ +
         transfers_.size() + zeroes_.size() + empty_.size();
}

// Reads of whole blocks need nobody's leave; in the tail the inner queue takes everything as it is,
// and no read-modify-write happens.
bool AligningQueue::passes_through(const Io& io) const noexcept {
  switch (io.operation) {
    case Operation::flush:
    case Operation::cache:
    case Operation::block_status:
      return true;
    case Operation::read:
      if (io.offset + io.length <= alignment_.aligned_size &&
          round_down(io.offset | io.length) == (io.offset | io.length))
        return true;
      break;
    case Operation::write:
    case Operation::discard:
    case Operation::write_zeroes:
      break;
  }
  return io.offset >= alignment_.aligned_size;
}

bool AligningQueue::is_empty(const Io& io) const noexcept {
  if (io.length == 0) return true;
  const std::uint64_t end = std::min(io.offset + io.length, alignment_.aligned_size);
  return io.operation == Operation::discard && io.offset + io.length <= alignment_.aligned_size &&
         engine::round_up(io.offset, alignment_.zero_alignment) >=
             engine::round_down(end, alignment_.zero_alignment);
}

void AligningQueue::submit(Io& io) noexcept {
  assert(io.offset <= alignment_.size && io.length <= alignment_.size - io.offset);
  if (io.operation != Operation::flush && is_empty(io)) {
    empty_.push_back(io);
  } else if (passes_through(io)) {
    inner_->submit(io);
    flush_needed_ = true;
  } else if (auto& line = line_of(io); line.empty() && has_task_for(io)) {
    start(io);
  } else {
    line.waiting.push_back(io);
  }
  LOOPNBD_ASSERT(invariants());
}

AligningQueue::Line& AligningQueue::line_of(const Io& io) noexcept {
  return zeroes(io) ? zeroes_ : transfers_;
}

bool AligningQueue::has_task_for(const Io& io) const noexcept {
  return !free_tasks_.empty() && (!zeroes(io) || zeroes_in_flight_ < (tasks_.size() + 1) / 2);
}

// There is a task for it, which it takes only once it has its range.
void AligningQueue::start(Io& io) noexcept {
  if (io.operation == Operation::read) return begin(io, Access::none);
  const std::uint64_t end = std::min(io.offset + io.length, alignment_.aligned_size);
  const std::uint64_t first = round_down(io.offset);
  const std::uint64_t last = round_up(end);
  const bool sub_block = io.operation != Operation::discard && (first != io.offset || last != end);
  if (!sub_block && participant_.begin_counted()) return begin(io, Access::counted);
  auto& claim = IoAccess::emplace<RangeClaim>(io, io);
  if (participant_.claim(claim, first, last, sub_block)) return begin(io, Access::claimed);
  ++claims_waiting_;  // see start_granted()
}

void AligningQueue::begin(Io& io, Access access) noexcept {
  LOOPNBD_ASSERT(has_task_for(io));
  Task& task = *free_tasks_.back();
  LOOPNBD_ASSERT(task.outstanding == 0);
  free_tasks_.pop_back();
  ++tasks_in_flight_;
  if (zeroes(io)) ++zeroes_in_flight_;
  const std::uint64_t end = io.offset + io.length;
  task.original = &io;
  task.begin = io.offset;
  task.end = std::min(end, alignment_.aligned_size);
  task.tail_end = std::max(end, alignment_.aligned_size);
  task.access = access;
  task.error = 0;
  switch (io.operation) {
    case Operation::read:
      task.stage = Stage::transfer;
      break;
    case Operation::write:
      task.stage = Stage::read_edges;
      break;
    default:
      task.stage = Stage::middle;
      break;
  }
  advance(task);
}

// Operations that keep others from their range go first.
void AligningQueue::start_waiting() noexcept {
  for (auto* const line : {&transfers_, &zeroes_}) {
    while (!line->granted.empty() && has_task_for(*line->granted.front()))
      begin(*line->granted.pop_front(), Access::claimed);
    while (!line->waiting.empty() && has_task_for(*line->waiting.front()))
      start(*line->waiting.pop_front());
  }
}

void AligningQueue::start_granted() noexcept {
  while (auto* const claim = participant_.next_granted()) {
    LOOPNBD_ASSERT(claims_waiting_ > 0);
    --claims_waiting_;
    Io& io = *static_cast<RangeClaim&>(*claim).io;
    line_of(io).granted.push_back(io);
  }
}

// Only those that are there now: complete() may submit more of them.
void AligningQueue::complete_empty() noexcept {
  for (auto count = empty_.size(); count > 0; --count) {
    Io* const io = empty_.pop_front();
    if (io == nullptr) return;
    ++tasks_completed_;
    io->complete(0);
  }
}

void AligningQueue::flush() noexcept {
  start_granted();
  start_waiting();
  if (!empty_.empty()) EventFd::signal(inner_->wakeup_fd());
  flush_needed_ = false;
  inner_->flush();
}

std::size_t AligningQueue::harvest() noexcept {
  parts_completed_ = 0;
  tasks_completed_ = 0;
  const std::size_t inner_completed = inner_->harvest();
  start_granted();
  start_waiting();
  complete_empty();
  // Further stages must not wait for a flush() that nobody knows to call.
  if (flush_needed_ || !empty_.empty()) flush();
  LOOPNBD_ASSERT(transfers_.empty() || free_tasks_.empty());
  LOOPNBD_ASSERT(invariants());
  return inner_completed - parts_completed_ + tasks_completed_;
}

void AligningQueue::advance(Task& task) noexcept {
  while (task.outstanding == 0) {
    if (task.error != 0 || task.stage == Stage::done) return finish(task);
    submit_stage(task);
  }
}

void AligningQueue::submit_stage(Task& task) noexcept {
  const Operation operation = task.original->operation;
  task.part_count = 0;
  switch (task.stage) {
    case Stage::middle:
      task.stage = Stage::transfer;
      return submit_middle(task);
    case Stage::transfer:
      task.stage = operation == Operation::write_zeroes ? Stage::read_edges : Stage::done;
      return submit_transfer(task);
    case Stage::read_edges:
      task.stage = operation == Operation::write ? Stage::transfer : Stage::write_edges;
      return submit_edges(task, Operation::read);
    case Stage::write_edges:
      task.stage = Stage::done;
      clear_edges(task);
      return submit_edges(task, Operation::write);
    case Stage::done:
      return;
  }
}

// The part of a discard or write_zeroes that the inner queue can take. It comes first: where
// fast_zero is refused, nothing has changed yet.
void AligningQueue::submit_middle(Task& task) noexcept {
  const std::uint64_t begin = engine::round_up(task.begin, alignment_.zero_alignment);
  const std::uint64_t end = engine::round_down(task.end, alignment_.zero_alignment);
  if (begin >= end) return;
  submit_part(task, task.original->operation, begin, end, nullptr);
}

void AligningQueue::submit_transfer(Task& task) noexcept {
  const Io& io = *task.original;
  const bool has_memory = moves_bytes(io);
  if (io.operation == Operation::write) restore_edges(task);
  if (has_memory) {
    const std::uint64_t begin = round_down(task.begin);
    submit_part(task, io.operation, begin, round_up(task.end), io.buffer - (task.begin - begin));
  }
  if (io.operation == Operation::write_zeroes) submit_zeroes(task);
  if (task.tail_end > alignment_.aligned_size)
    submit_part(task, io.operation, alignment_.aligned_size, task.tail_end,
                has_memory ? io.buffer + (task.end - task.begin) : nullptr);
}

// The whole blocks of write_zeroes in front of its middle and behind it: less than zero_alignment
// on either side.
void AligningQueue::submit_zeroes(Task& task) noexcept {
  const std::uint64_t first = round_up(task.begin);
  const std::uint64_t last = round_down(task.end);
  if (first >= last) return;
  const std::uint64_t middle_begin =
      std::min(engine::round_up(task.begin, alignment_.zero_alignment), last);
  const std::uint64_t middle_end =
      std::max(engine::round_down(task.end, alignment_.zero_alignment), middle_begin);
  if (first < middle_begin)
    submit_part(task, Operation::write, first, middle_begin, zero_memory_.get());
  if (middle_end < last) submit_part(task, Operation::write, middle_end, last, zero_memory_.get());
}

// The blocks that belong only in part to the range: the first, and the last unless it is the first.
void AligningQueue::submit_edges(Task& task, Operation operation) noexcept {
  const std::uint64_t block_size = alignment_.block_size;
  const std::uint64_t head = round_down(task.begin);
  const std::uint64_t final = round_down(task.end);
  const bool has_head = head != task.begin;
  if (has_head) submit_part(task, operation, head, head + block_size, task.head_block);
  if (final != task.end && !(has_head && final == head))
    submit_part(task, operation, final, final + block_size, task.final_block);
}

// Puts the old bytes of the edge blocks into the slack around the data, so that one write of whole
// blocks does.
void AligningQueue::restore_edges(Task& task) noexcept {
  const std::uint64_t head = round_down(task.begin);
  const std::uint64_t final = round_down(task.end);
  const std::size_t lead = task.begin - head;
  if (lead != 0) std::memcpy(task.original->buffer - lead, task.head_block, lead);
  if (final != task.end) {
    const std::size_t kept_from = task.end - final;
    const std::byte* const block = lead != 0 && final == head ? task.head_block : task.final_block;
    std::memcpy(task.original->buffer + (task.end - task.begin), block + kept_from,
                alignment_.block_size - kept_from);
  }
}

void AligningQueue::clear_edges(Task& task) noexcept {
  const std::uint64_t head = round_down(task.begin);
  const std::uint64_t final = round_down(task.end);
  const std::size_t lead = task.begin - head;
  if (lead != 0) {
    const std::uint64_t end = std::min<std::uint64_t>(task.end - head, alignment_.block_size);
    std::memset(task.head_block + lead, 0, end - lead);
  }
  if (final != task.end) std::memset(task.final_block, 0, task.end - final);
}

void AligningQueue::submit_part(Task& task, Operation operation, std::uint64_t begin,
                                std::uint64_t end, std::byte* memory) noexcept {
  const Io& original = *task.original;
  LOOPNBD_ASSERT(task.part_count < task.parts.size() && begin < end);
  LOOPNBD_ASSERT(end <= alignment_.aligned_size || begin >= alignment_.aligned_size);
  Part& part = task.parts[task.part_count++];
  part.set_request(original);
  part.operation = operation;
  part.fua = original.fua && operation != Operation::read;
  // Not in the tail: it is smaller than a block, and may not refuse once something else has
  // changed.
  part.fast_zero = original.fast_zero && begin < alignment_.aligned_size;
  part.offset = begin;
  part.length = end - begin;
  part.buffer = memory;
  ++task.outstanding;
  ++parts_in_flight_;
  inner_->submit(part);
  flush_needed_ = true;
}

void AligningQueue::part_done(Part& part, std::int64_t result) noexcept {
  Task& task = *part.task;
  LOOPNBD_ASSERT(task.outstanding > 0 && parts_in_flight_ > 0);
  ++parts_completed_;
  --parts_in_flight_;
  --task.outstanding;
  assert(result < 0 || !moves_bytes(part) || result == static_cast<std::int64_t>(part.length));
  if (result < 0 && task.error == 0) task.error = result;
  if (task.outstanding == 0) advance(task);
}

// Each task is free or in flight, and the parts of those in flight are what the inner queue has.
bool AligningQueue::invariants() const noexcept {
  std::size_t outstanding = 0;
  for (const Task& task : tasks_) outstanding += task.outstanding;
  return free_tasks_.size() + tasks_in_flight_ == tasks_.size() &&
         outstanding == parts_in_flight_ && parts_in_flight_ <= inner_->in_flight();
}

void AligningQueue::finish(Task& task) noexcept {
  LOOPNBD_ASSERT(task.outstanding == 0 && tasks_in_flight_ > 0);
  Io& original = *task.original;
  if (task.access == Access::counted) participant_.end_counted();
  if (task.access == Access::claimed) participant_.release(IoAccess::get<RangeClaim>(original));
  if (zeroes(original)) --zeroes_in_flight_;
  const std::int64_t success =
      moves_bytes(original) ? static_cast<std::int64_t>(original.length) : 0;
  const std::int64_t result = task.error != 0 ? task.error : success;
  free_tasks_.push_back(&task);
  --tasks_in_flight_;
  ++tasks_completed_;
  original.complete(result);
}

}  // namespace engine
