// A disk image, block device or stretch of memory that an export serves. Shared by all threads and
// immutable but for its size; each thread makes an IoQueue of its own.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <string>

#include "engine/io_queue.h"

namespace engine {

struct Geometry {
  std::uint32_t block_size =
      1;  // bytes, power of two <= 64 KiB: below it writes cost a read-modify-write
  std::uint32_t preferred_size = 4096;  // bytes, power of two, >= block_size and >= 512
  bool read_only = false;
  bool rotational = false;
  bool can_discard = false;
  bool can_zero_fast = false;  // write_zeroes need not write them; fast_zero may still be refused
  bool can_report_extents = false;  // block_status distinguishes holes
};

class BlockDevice {
 public:
  virtual ~BlockDevice() = default;

  virtual const Geometry& geometry() const noexcept = 0;
  // Bytes. Any number, not only multiples of the block size.
  virtual std::uint64_t size() const noexcept = 0;
  // How the device is driven, for people: "direct", "buffered" or "memory".
  virtual std::string mode() const = 0;

  // A queue for the calling thread (made and used there or handed over before its first use).
  // `depth_max` is how many operations the kernel may hold at once. Serves operations of any
  // alignment. Throws std::system_error or std::runtime_error with a message for people. The device
  // must outlive its queues.
  virtual std::unique_ptr<IoQueue> make_queue(std::size_t depth_max) = 0;

  // Waits until all completed writes are durable; for shutdown. May block. Returns 0 or -errno; the
  // error of an earlier failed flush stays.
  virtual int sync() noexcept = 0;
  // 0, or the -errno of a sync that failed, which every later one repeats. Any thread.
  virtual int sync_error() const noexcept { return 0; }
};

}  // namespace engine
