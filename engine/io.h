// One block operation: IoRequest is what is asked for, a plain value, and Io is that request on its
// way through an IoQueue. The engine knows nothing of NBD: offsets and lengths are bytes of the
// device's window, results are byte counts or negative errno values.
//
// The owner keeps the Io where it is from submit() until complete(): the kernel holds a pointer
// into it.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <span>

namespace engine {

enum class Operation : std::uint8_t {
  read,
  write,
  flush,
  discard,
  write_zeroes,
  cache,
  block_status
};

// A run of bytes with one allocation status; the answer to Operation::block_status.
struct Extent {
  std::uint64_t length = 0;  // bytes
  bool hole = false;         // not allocated
  bool zero = false;         // reads as zeroes; never set unless that is certain
};

// A queue that stands in front of another one copies it whole, and then changes what differs.
struct IoRequest {
  Operation operation = Operation::read;
  bool fua = false;      // write, write_zeroes, discard: durable before it completes
  bool no_hole = false;  // write_zeroes: the range stays allocated
  bool fast_zero =
      false;  // write_zeroes: fail with -EOPNOTSUPP, nothing changed, rather than be slow
  bool one_extent = false;  // block_status: a single extent is enough

  // The range; within the device's size (the submitter has checked). Any alignment. Zero for flush.
  // Not empty otherwise. read and write: at most buffer_size_max. The other operations: any length.
  std::uint64_t offset = 0;
  std::uint64_t length = 0;

  // read, write: where the bytes are. `buffer` is congruent to `offset` modulo
  // Geometry::block_size, counted from an address aligned to it, and the whole blocks around the
  // range are memory the engine may overwrite: BufferPool gives such memory.
  std::byte* buffer = nullptr;

  // block_status: filled from `offset` on, never past the end of the device; the owner's memory. At
  // least one extent is delivered; together they may cover less than the range.
  std::span<Extent> extents;
};

class Io : public IoRequest {
 public:
  Io() = default;
  Io(const Io&) = delete;
  Io& operator=(const Io&) = delete;

  // Only while no queue has it.
  void set_request(const IoRequest& request) noexcept { IoRequest::operator=(request); }

  // Called exactly once, from IoQueue::harvest() on the thread that owns the queue. The Io may be
  // reused or destroyed from here on. `result`: `length` for read and write, the number of extents
  // for block_status, 0 for the rest; or -errno. There are no short results.
  virtual void complete(std::int64_t result) noexcept = 0;

 protected:
  // Virtual only because g++ takes the friend below for somebody who deletes an Io.
  virtual ~Io() = default;

 private:
  friend class IoAccess;  // the queues' way to the fields below
  Io* next_ = nullptr;
  alignas(8) std::array<std::byte, 64> kernel_block_{};  // the iocb
};

}  // namespace engine
