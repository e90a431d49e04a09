#include "test/double/memory_device.h"

#include <algorithm>
#include <bit>
#include <cassert>
#include <cerrno>
#include <cstring>
#include <string>

#include "engine/buffer_pool.h"
#include "engine/event_fd.h"
#include "engine/io_access.h"

namespace engine {

// Serves at harvest(), at most `depth_max` operations a time, so that what waits inside a queue and
// what happens between two turns of a worker is as with a disk.
class MemoryDevice::Queue final : public IoQueue {
 public:
  Queue(MemoryDevice& device, std::size_t depth_max)
      : device_(device), depth_max_(std::max<std::size_t>(depth_max, 1)) {}
  ~Queue() override { assert(in_flight() == 0); }

  void submit(Io& io) noexcept override { submitted_.push_back(io); }
  void flush() noexcept override {
    started_.splice_back(submitted_);
    if (!started_.empty()) wakeup_.signal();
  }
  std::size_t harvest() noexcept override;
  int wakeup_fd() const noexcept override { return wakeup_.get(); }
  void clear_wakeup() noexcept override { wakeup_.clear(); }
  std::size_t in_flight() const noexcept override { return submitted_.size() + started_.size(); }

 private:
  MemoryDevice& device_;
  const std::size_t depth_max_;
  EventFd wakeup_;
  IoList submitted_;
  IoList started_;
};

std::size_t MemoryDevice::Queue::harvest() noexcept {
  std::size_t count = 0;
  while (count < depth_max_ && !started_.empty()) {
    Io& io = *started_.pop_front();
    ++count;
    io.complete(device_.serve(io));
  }
  if (!started_.empty()) wakeup_.signal();
  return count;
}

MemoryDevice::MemoryDevice(const MemoryDeviceOptions& options)
    : options_(options),
      bytes_(std::make_unique<std::byte[]>(options.size)),
      allocated_(options.size / options.zero_alignment + 1) {
  assert(std::has_single_bit(options.block_size) && std::has_single_bit(options.zero_alignment));
  geometry_.block_size = options.block_size;
  geometry_.preferred_size = std::max(4096U, options.block_size);
  geometry_.read_only = options.read_only;
  geometry_.rotational = options.rotational;
  geometry_.can_discard = true;
  geometry_.can_zero_fast = options.zeroes_fast;
  geometry_.can_report_extents = true;
  alignment_.block_size = options.block_size;
  alignment_.zero_alignment = std::max(options.zero_alignment, options.block_size);
  alignment_.size = options.size;
  alignment_.aligned_size = options.size - options.size % options.block_size;
}

MemoryDevice::~MemoryDevice() = default;

std::unique_ptr<IoQueue> MemoryDevice::make_raw_queue(std::size_t depth_max) {
  return std::make_unique<Queue>(*this, depth_max);
}

std::string MemoryDevice::store() const {
  return "memory " + std::to_string(reinterpret_cast<std::uintptr_t>(this));
}

int MemoryDevice::grow(std::uint64_t size) noexcept { return size <= options_.size ? 0 : -EFBIG; }

std::unique_ptr<IoQueue> MemoryDevice::make_queue(std::size_t depth_max) {
  auto queue = make_raw_queue(depth_max);
  if (options_.block_size == 1) return queue;
  return std::make_unique<AligningQueue>(std::move(queue), alignment_, range_lock_);
}

// False for what the kernel would refuse, and an AligningQueue promises not to ask for.
bool MemoryDevice::is_acceptable(const Io& io) const noexcept {
  if (io.operation == Operation::flush) return io.length == 0;
  if (io.length == 0 || io.offset > options_.size || io.length > options_.size - io.offset)
    return false;
  if (io.operation == Operation::cache) return true;
  if (io.operation == Operation::block_status) return !io.extents.empty();
  const bool moves_bytes = io.operation == Operation::read || io.operation == Operation::write;
  if (moves_bytes && io.length > buffer_size_max + 2 * options_.block_size) return false;
  if (options_.block_size == 1 || io.offset >= alignment_.aligned_size) return true;
  if (moves_bytes && reinterpret_cast<std::uintptr_t>(io.buffer) % options_.block_size != 0)
    return false;
  const std::uint64_t unit = moves_bytes ? options_.block_size : alignment_.zero_alignment;
  return io.offset % unit == 0 && io.length % unit == 0 &&
         io.offset + io.length <= alignment_.aligned_size;
}

std::int64_t MemoryDevice::serve(Io& io) noexcept {
  if (!is_acceptable(io)) return -EINVAL;
  const bool changes = io.operation == Operation::write || io.operation == Operation::discard ||
                       io.operation == Operation::write_zeroes;
  if (changes && options_.read_only) return -EPERM;
  const MutexLock lock(mutex_);
  const std::uint64_t end = io.offset + io.length;
  switch (io.operation) {
    case Operation::read:
      std::memcpy(io.buffer, &bytes_[io.offset], io.length);
      return static_cast<std::int64_t>(io.length);
    case Operation::write:
      std::memcpy(&bytes_[io.offset], io.buffer, io.length);
      for (auto unit = io.offset / options_.zero_alignment; unit * options_.zero_alignment < end;
           ++unit)
        allocated_[unit] = true;
      return static_cast<std::int64_t>(io.length);
    case Operation::discard:
      if (options_.zeroes_fast) clear(io.offset, end, false);
      return 0;
    case Operation::write_zeroes:
      if (io.fast_zero && !options_.zeroes_fast) return -EOPNOTSUPP;
      clear(io.offset, end, io.no_hole || !options_.zeroes_fast);
      return 0;
    case Operation::block_status:
      return report_extents(io);
    case Operation::flush:
    case Operation::cache:
      return 0;
  }
  return -EINVAL;
}

// Units at the edges of the range stay allocated if they were, for they may hold other bytes.
void MemoryDevice::clear(std::uint64_t begin, std::uint64_t end, bool allocated) noexcept {
  std::memset(&bytes_[begin], 0, end - begin);
  const std::uint64_t unit_size = options_.zero_alignment;
  for (auto unit = begin / unit_size; unit * unit_size < end; ++unit) {
    const std::uint64_t unit_end = std::min((unit + 1) * unit_size, options_.size);
    if (allocated || (unit * unit_size >= begin && unit_end <= end)) allocated_[unit] = allocated;
  }
}

std::int64_t MemoryDevice::report_extents(const Io& io) const noexcept {
  const std::uint64_t end = io.offset + io.length;
  const std::size_t count_max = io.one_extent ? 1 : io.extents.size();
  std::size_t count = 0;
  for (std::uint64_t offset = io.offset; offset < end && count < count_max; ++count) {
    auto unit = offset / options_.zero_alignment;
    const bool hole = !allocated_[unit];
    while (unit * options_.zero_alignment < end && allocated_[unit] != hole) ++unit;
    const std::uint64_t extent_end = std::min(unit * options_.zero_alignment, end);
    io.extents[count] = {extent_end - offset, hole, hole};
    offset = extent_end;
  }
  return static_cast<std::int64_t>(count);
}

}  // namespace engine
