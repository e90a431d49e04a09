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
  // `range_lock` is that of the device and outlives the queue. `task_count`: how many operations at
  // once may be other than plain reads; more wait inside. Each has two blocks of memory for its
  // edges, untouched until used.
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
  std::size_t in_flight() const noexcept override;

 private:
  class Part;
  struct Task;
  enum class Stage : std::uint8_t;
  struct FreeMemory {
    void operator()(std::byte* memory) const noexcept { std::free(memory); }
  };
  using Memory = std::unique_ptr<std::byte[], FreeMemory>;

  static Memory make_memory(std::size_t size, std::size_t block_size);
  bool passes_through(const Io& io) const noexcept;
  bool is_empty(const Io& io) const noexcept;
  void start(Io& io) noexcept;
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
  IoList waiting_;                   // for a task
  IoList empty_;                     // nothing to do: complete with 0 at the next harvest()
  std::size_t parts_in_flight_ = 0;  // submitted to the inner queue
  std::size_t tasks_in_flight_ = 0;
  std::size_t parts_completed_ = 0;  // by the harvest() that is running
  std::size_t tasks_completed_ = 0;  // likewise
  bool flush_needed_ = false;        // parts were submitted to the inner queue since its flush()
};

}  // namespace engine
