// I/O by way of the page cache, for file systems that refuse direct I/O or when it is turned off.
// flush() does in place what the cache can do at once (RWF_NOWAIT: a read of pages that are there,
// on some file systems also a write), the BlockingPool does the rest. Any alignment.
#pragma once

#include <cstddef>
#include <cstdint>

#include "engine/file/file_queue.h"

namespace engine {

class BufferedQueue final : public FileQueue {
 public:
  // `file` and `pool` outlive the queue. Throws std::system_error.
  BufferedQueue(BackingFile& file, BlockingPool& pool) : FileQueue(file, pool) {}

  void flush() noexcept override;
  std::size_t harvest() noexcept override;

 private:
  std::uint64_t transfer_at_once(Io& io) noexcept;

  bool read_at_once_ = true;  // false once the file system has refused RWF_NOWAIT
  bool write_at_once_ = true;
};

}  // namespace engine
