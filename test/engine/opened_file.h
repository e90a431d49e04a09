// A BackingFile over a file of the test's, for the tests of what lies below FileDevice.
#pragma once

#include <fcntl.h>

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "engine/file/backing_file.h"
#include "engine/file/file_probe.h"
#include "engine/mutex.h"
#include "test/engine/temporary_file.h"

namespace engine::test {

inline FileDescriptor open_fd(const std::string& path, int flags) {
  return FileDescriptor(::open(path.c_str(), flags | O_CLOEXEC));
}

// The reports of a device, from any thread.
class Reports {
 public:
  void add(std::string_view line) {
    const MutexLock lock(mutex_);
    lines_.emplace_back(line);
  }
  std::vector<std::string> lines() const {
    const MutexLock lock(mutex_);
    return lines_;
  }

 private:
  mutable Mutex mutex_;
  std::vector<std::string> lines_ LOOPNBD_GUARDED_BY(mutex_);
};

// A disk file of `size` bytes, opened as open_device would. Direct where the file system can.
struct OpenedFile {
  explicit OpenedFile(std::uint64_t size, bool want_direct = true,
                      const std::string& folder = disk_folder())
      : temporary(folder, size),
        direct(want_direct ? open_fd(temporary.path(), O_RDWR | O_DIRECT) : FileDescriptor()),
        is_direct(direct),
        file(std::move(direct), open_fd(temporary.path(), O_RDWR), traits(size),
             [this](std::string_view line) { reports.add(line); }) {}

  Reports reports;
  TemporaryFile temporary;
  FileDescriptor direct;  // until `file` has it
  const bool is_direct;
  BackingFile file;

 private:
  FileTraits traits(std::uint64_t size) const {
    FileTraits traits;
    traits.path = temporary.path();
    traits.size = size;
    traits.can_discard = traits.can_punch = true;
    if (!is_direct) return traits;
    traits.block_size = probe_direct_alignment(direct.get(), size).value_or(4096);
    traits.aligned_size = size % traits.block_size == 0 ? size : size / 4096 * 4096;
    traits.nowait = probe_nowait(direct.get(), traits.block_size);
    return traits;
  }
};

}  // namespace engine::test
