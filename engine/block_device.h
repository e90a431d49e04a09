// A disk image, block device or stretch of memory that an export serves. Shared by all threads and
// immutable but for its size; each thread makes an IoQueue of its own.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <string>
#include <string_view>

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
  // How the bytes get to where they are kept.
  enum class Path : std::uint8_t { direct, buffered, memory, remote };

  virtual ~BlockDevice() = default;

  virtual const Geometry& geometry() const noexcept = 0;
  // Bytes. Any number, not only multiples of the block size.
  virtual std::uint64_t size() const noexcept = 0;
  virtual Path path() const noexcept = 0;
  // The same for people: "direct", "buffered" and so on.
  std::string_view mode() const noexcept;

  // Names what the bytes are kept in; the same text for all windows into one file, block device or
  // the like, and for no others.
  virtual std::string store() const = 0;
  // Bytes into the store where the window begins.
  virtual std::uint64_t window_offset() const noexcept = 0;
  bool same_store(const BlockDevice& other) const { return store() == other.store(); }
  // Whether both begin at the same byte of one store; their sizes may differ.
  bool same_window(const BlockDevice& other) const {
    return same_store(other) && window_offset() == other.window_offset();
  }
  // Makes the store long enough for a window of `size` bytes, if it is one that can become longer;
  // the device itself keeps its size. May block. Returns 0 or -errno: -ESTALE when what the device
  // was opened by now stands for another store, -EFBIG when none can be so long.
  virtual int grow(std::uint64_t size) noexcept = 0;
  // Undoes the last grow(), if nothing was written to what it has added. May block. 0 or -errno.
  virtual int undo_grow() noexcept { return 0; }
  // False: what the device was opened by stands for another store by now. May block.
  virtual bool is_at_path() const noexcept { return true; }

  // A device that was opened with predecessors leaves them what they hold. claim() makes it the
  // only one, the last step of a change that may fail: 0 or -errno, and then all is as before.
  // Destroyed after that, it gives back what it has taken; commit() makes it final. May block.
  virtual int claim() noexcept { return 0; }
  virtual void commit() noexcept {}

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
  // Forgets it, if the store can be synced now. May block. 0, or the -errno of the sync.
  virtual int clear_sync_error() noexcept { return 0; }
};

inline std::string_view BlockDevice::mode() const noexcept {
  switch (path()) {
    case Path::direct:
      return "direct";
    case Path::buffered:
      return "buffered";
    case Path::memory:
      return "memory";
    case Path::remote:
      break;
  }
  return "remote";
}

}  // namespace engine
