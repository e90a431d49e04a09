// A device in memory, for tests and benchmarks. With a block size above 1 its raw queues are as
// strict as direct I/O, so that the aligning layer is at work over it. Queues of several threads
// may share a device; a mutex serialises the copies.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "engine/align/aligning_queue.h"
#include "engine/align/range_lock.h"
#include "engine/block_device.h"
#include "engine/mutex.h"

namespace engine {

struct MemoryDeviceOptions {
  std::uint64_t size = 0;               // bytes, any number
  std::uint32_t block_size = 1;         // power of two; 1: no aligning layer
  std::uint32_t zero_alignment = 4096;  // power of two, >= block_size; the unit of allocation, too
  bool read_only = false;
  bool rotational = false;
  bool zeroes_fast = true;  // false: fast_zero is refused, and discards change nothing
};

class MemoryDevice final : public BlockDevice {
 public:
  explicit MemoryDevice(const MemoryDeviceOptions& options);
  ~MemoryDevice() override;

  const Geometry& geometry() const noexcept override { return geometry_; }
  std::uint64_t size() const noexcept override { return options_.size; }
  Path path() const noexcept override { return Path::memory; }
  std::string store() const override;
  std::uint64_t window_offset() const noexcept override { return 0; }
  int grow(std::uint64_t size) noexcept override;
  std::unique_ptr<IoQueue> make_queue(std::size_t depth_max) override;
  int sync() noexcept override { return 0; }

  // Without the aligning layer: takes what AligningQueue passes down and says -EINVAL to anything
  // else.
  std::unique_ptr<IoQueue> make_raw_queue(std::size_t depth_max);
  // For an AligningQueue over a raw queue, or over a decorator of one.
  const Alignment& alignment() const noexcept { return alignment_; }
  RangeLock& range_lock() noexcept { return range_lock_; }

 private:
  class Queue;

  bool is_acceptable(const Io& io) const noexcept;
  std::int64_t serve(Io& io) noexcept;
  void clear(std::uint64_t begin, std::uint64_t end, bool allocated) noexcept
      LOOPNBD_REQUIRES(mutex_);
  std::int64_t report_extents(const Io& io) const noexcept LOOPNBD_REQUIRES(mutex_);

  const MemoryDeviceOptions options_;
  Geometry geometry_;
  Alignment alignment_;
  RangeLock range_lock_;
  Mutex mutex_;
  std::unique_ptr<std::byte[]> bytes_ LOOPNBD_GUARDED_BY(mutex_);
  std::vector<bool> allocated_ LOOPNBD_GUARDED_BY(mutex_);  // one for each zero_alignment bytes
};

}  // namespace engine
