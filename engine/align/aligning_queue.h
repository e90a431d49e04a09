// Serves operations of any alignment over a queue that can only do whole blocks: what direct I/O
// asks for. An unaligned read becomes one read of the blocks around it, into the slack that
// Io::buffer promises; an unaligned write reads the old edges of its blocks first, under the
// device's RangeLock.
//
// The last bytes of a device whose size is no multiple of its blocks are the tail, [aligned_size,
// size): the inner queue serves reads, writes, discards and zeroes there at any alignment, and
// below it only whole blocks in aligned memory; discards and zeroes below it come in multiples of
// `zero_alignment`. Nothing is passed down that lies in both. A read or write passed down may be
// longer than its original by less than a block at either end. flush, cache and block_status are
// passed down as they are, whatever their range.
//
// The inner queue's wakeup_fd() has to be an eventfd: grants of ranges by other threads are
// signalled there, so that one descriptor wakes for both.
#pragma once

#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <memory>
#include <vector>

#include "engine/align/range_lock.h"
#include "engine/io_access.h"
#include "engine/io_queue.h"

namespace engine {

// Bytes throughout.
struct Alignment {
  std::uint32_t block_size = 512;       // power of two
  std::uint32_t zero_alignment = 4096;  // power of two, >= block_size, <= buffer_size_max
  std::uint64_t size = 0;               // of the device
  std::uint64_t aligned_size = 0;       // multiple of block_size, <= size; where the tail begins
};

class AligningQueue final : public IoQueue {
 public:
  // `range_lock` is that of the device and outlives the queue. `task_count`: how many operations
  // other than plain reads may be under way at once; more wait inside. An operation that waits for
  // its range is not counted, and discards and zeroes get half of the tasks at most, since they may
  // take long: so neither stands in the way of reads and writes elsewhere. Each task has two blocks
  // of memory for its edges, untouched until used.
  AligningQueue(std::unique_ptr<IoQueue> inner, const Alignment& alignment, RangeLock& range_lock,
                std::size_t task_count = 128);
  ~AligningQueue() override;
  AligningQueue(const AligningQueue&) = delete;
  AligningQueue& operator=(const AligningQueue&) = delete;

  void submit(Io& io) noexcept override;
  void flush() noexcept override;
  std::size_t harvest() noexcept override;
  int wakeup_fd() const noexcept override { return inner_->wakeup_fd(); }
  void clear_wakeup() noexcept override { inner_->clear_wakeup(); }
  void suspend() noexcept override { inner_->suspend(); }
  std::size_t in_flight() const noexcept override;

 private:
  class Part;
  class RangeClaim;
  struct Task;
  enum class Access : std::uint8_t { none, counted, claimed };  // an operation's to its range
  enum class Stage : std::uint8_t;
  struct FreeMemory {
    void operator()(std::byte* memory) const noexcept { std::free(memory); }
  };
  // Operations that wait for a task, each list first come, first served.
  struct Line {
    bool empty() const noexcept { return granted.empty() && waiting.empty(); }
    std::size_t size() const noexcept { return granted.size() + waiting.size(); }

    IoList granted;  // have claimed their range
    IoList waiting;  // have not yet
  };
  using Memory = std::unique_ptr<std::byte[], FreeMemory>;

  static Memory make_memory(std::size_t size, std::size_t block_size);
  bool passes_through(const Io& io) const noexcept;
  bool is_empty(const Io& io) const noexcept;
  Line& line_of(const Io& io) noexcept;
  bool has_task_for(const Io& io) const noexcept;
  void start(Io& io) noexcept;
  void begin(Io& io, Access access) noexcept;
  void start_waiting() noexcept;
  void start_granted() noexcept;
  void complete_empty() noexcept;

  void advance(Task& task) noexcept;
  void submit_stage(Task& task) noexcept;
  void submit_middle(Task& task) noexcept;
  void submit_transfer(Task& task) noexcept;
  void submit_zeroes(Task& task) noexcept;
  void submit_edges(Task& task, Operation operation) noexcept;
  void restore_edges(Task& task) noexcept;
  void clear_edges(Task& task) noexcept;
  void submit_part(Task& task, Operation operation, std::uint64_t begin, std::uint64_t end,
                   std::byte* memory) noexcept;
  void part_done(Part& part, std::int64_t result) noexcept;
  void finish(Task& task) noexcept;
  bool invariants() const noexcept;

  std::uint64_t round_down(std::uint64_t offset) const noexcept;
  std::uint64_t round_up(std::uint64_t offset) const noexcept;

  const std::unique_ptr<IoQueue> inner_;
  const Alignment alignment_;
  RangeLock::Participant participant_;
  const Memory edge_memory_;  // two blocks for each task
  const Memory zero_memory_;  // zero_alignment bytes of zeroes
  std::vector<Task> tasks_;   // never grows
  std::vector<Task*> free_tasks_;
  Line transfers_;                   // reads and writes
  Line zeroes_;                      // discards and zeroes
  IoList empty_;                     // nothing to do: complete with 0 at the next harvest()
  std::size_t parts_in_flight_ = 0;  // submitted to the inner queue
  std::size_t tasks_in_flight_ = 0;
  std::size_t zeroes_in_flight_ = 0;  // of the tasks: discards and zeroes
  std::size_t claims_waiting_ = 0;    // operations that wait for their range
  std::size_t parts_completed_ = 0;   // by the harvest() that is running
  std::size_t tasks_completed_ = 0;   // likewise
  bool flush_needed_ = false;         // parts were submitted to the inner queue since its flush()
};

}  // namespace engine
