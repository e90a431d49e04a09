// A BackingFile over a file of the test's, and queues of it, for the tests of what lies below
// FileDevice.
#pragma once

#include <fcntl.h>

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "engine/blocking_pool.h"
#include "engine/file/backing_file.h"
#include "engine/file/file_probe.h"
#include "engine/mutex.h"
#include "test/engine/file_systems.h"

namespace test {

inline engine::FileDescriptor open_fd(const std::string& path, int flags) {
  return engine::FileDescriptor(::open(path.c_str(), flags | O_CLOEXEC));
}

// The reports of a device, from any thread.
class Reports {
 public:
  void add(std::string_view line) {
    const engine::MutexLock lock(mutex_);
    lines_.emplace_back(line);
  }
  std::vector<std::string> lines() const {
    const engine::MutexLock lock(mutex_);
    return lines_;
  }

 private:
  mutable engine::Mutex mutex_;
  std::vector<std::string> lines_ LOOPNBD_GUARDED_BY(mutex_);
};

// A disk file of `size` bytes, opened as open_device would. Direct where the file system can.
struct OpenedFile {
  explicit OpenedFile(std::uint64_t size, bool want_direct = true,
                      const std::string& folder = disk_folder())
      : temporary(folder, size),
        direct(want_direct ? open_fd(temporary.path(), O_RDWR | O_DIRECT)
                           : engine::FileDescriptor()),
        is_direct(direct),
        file(std::move(direct), open_fd(temporary.path(), O_RDWR), traits(size),
             [this](std::string_view line) { reports.add(line); }) {}

  Reports reports;
  TemporaryFile temporary;
  engine::FileDescriptor direct;  // until `file` has it
  const bool is_direct;
  engine::BackingFile file;

 private:
  engine::FileTraits traits(std::uint64_t size) const {
    engine::FileTraits traits;
    traits.path = temporary.path();
    traits.size = size;
    traits.can_discard = traits.can_punch = true;
    if (!is_direct) return traits;
    traits.block_size = engine::probe_direct_alignment(direct.get(), size).value_or(4096);
    traits.aligned_size = size % traits.block_size == 0 ? size : size / 4096 * 4096;
    traits.nowait = engine::probe_nowait(direct.get(), traits.block_size);
    return traits;
  }
};

// A queue of such a file, and the pool that it needs. `rest`: what the queue wants beyond these.
template <typename Queue>
struct OpenedQueue {
  template <typename... Rest>
  explicit OpenedQueue(std::uint64_t size, bool want_direct = false,
                       const std::string& folder = disk_folder(), Rest... rest)
      : opened(size, want_direct, folder), queue(opened.file, pool, rest...) {}

  OpenedFile opened;
  engine::BlockingPool pool{2};
  Queue queue;
};

}  // namespace test
