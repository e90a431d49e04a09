// Folders, full and small file systems, and loop devices that the engine's tests work on; gone when
// the object is. Throws std::runtime_error when something is not possible here.
#pragma once

#include <sys/resource.h>

#include <cstdint>
#include <optional>
#include <string>
#include <utility>

#include "test/support/temporary_file.h"

namespace test {

// A folder on the file system of the build: ext4 or the like, with direct I/O on most machines.
std::string disk_folder();
// A folder on tmpfs.
std::string memory_folder();

// While it lives, this process cannot write behind `size` bytes of any file: such writes fail with
// EFBIG, as they do with ENOSPC on a full file system.
class FileSizeLimit {
 public:
  explicit FileSizeLimit(std::uint64_t size);
  ~FileSizeLimit();
  FileSizeLimit(const FileSizeLimit&) = delete;
  FileSizeLimit& operator=(const FileSizeLimit&) = delete;

 private:
  rlimit before_{};
};

// A file system in memory with room for `size` bytes.
class SmallFileSystem {
 public:
  // Nothing, with the reason printed, where it cannot be mounted.
  static std::optional<SmallFileSystem> make(std::uint64_t size);
  SmallFileSystem(SmallFileSystem&& other) noexcept;
  SmallFileSystem& operator=(SmallFileSystem&&) = delete;
  ~SmallFileSystem();

  const std::string& folder() const noexcept { return folder_; }

 private:
  explicit SmallFileSystem(std::string folder) : folder_(std::move(folder)) {}

  std::string folder_;
};

// A block device over a file.
class LoopDevice {
 public:
  // Nothing, with the reason printed, where none can be made: not root, no losetup, a container.
  static std::optional<LoopDevice> make(const TemporaryFile& file, std::uint32_t block_size);
  LoopDevice(LoopDevice&& other) noexcept;
  LoopDevice& operator=(LoopDevice&&) = delete;
  ~LoopDevice();

  const std::string& path() const noexcept { return path_; }

 private:
  explicit LoopDevice(std::string path) : path_(std::move(path)) {}

  std::string path_;
};

}  // namespace test
