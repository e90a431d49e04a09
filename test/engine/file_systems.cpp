#include "test/engine/file_systems.h"

#include <sys/mount.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <csignal>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <memory>
#include <stdexcept>
#include <utility>

namespace test {

namespace {

[[noreturn]] void fail(const std::string& what) {
  throw std::runtime_error(what + ": " + std::strerror(errno));
}

// The first line that a command prints; empty when it fails.
std::string output_of(const std::string& command) {
  std::FILE* const pipe = ::popen(command.c_str(), "re");
  if (pipe == nullptr) return "";
  std::array<char, 256> line{};
  const bool any = std::fgets(line.data(), static_cast<int>(line.size()), pipe) != nullptr;
  if (::pclose(pipe) != 0 || !any) return "";
  return std::string(line.data(), std::strcspn(line.data(), "\n"));
}

}  // namespace

std::string disk_folder() { return LOOPNBD_TEST_FOLDER; }
std::string memory_folder() { return "/dev/shm"; }

FileSizeLimit::FileSizeLimit(std::uint64_t size) {
  std::signal(SIGXFSZ, SIG_IGN);  // would end the process instead
  if (::getrlimit(RLIMIT_FSIZE, &before_) != 0) fail("getrlimit");
  rlimit limit = before_;
  limit.rlim_cur = size;
  if (::setrlimit(RLIMIT_FSIZE, &limit) != 0) fail("setrlimit");
}

FileSizeLimit::~FileSizeLimit() { ::setrlimit(RLIMIT_FSIZE, &before_); }

std::optional<SmallFileSystem> SmallFileSystem::make(std::uint64_t size) {
  std::string folder = disk_folder() + "/loopnbd-mount-XXXXXX";
  if (::mkdtemp(folder.data()) == nullptr) fail(folder);
  const auto size_option = "size=" + std::to_string(size);
  if (::mount("tmpfs", folder.c_str(), "tmpfs", 0, size_option.c_str()) == 0)
    return SmallFileSystem(folder);
  std::puts("skipped: nothing can be mounted here");
  ::rmdir(folder.c_str());
  return std::nullopt;
}

SmallFileSystem::SmallFileSystem(SmallFileSystem&& other) noexcept
    : folder_(std::exchange(other.folder_, "")) {}

SmallFileSystem::~SmallFileSystem() {
  if (folder_.empty()) return;
  ::umount(folder_.c_str());
  ::rmdir(folder_.c_str());
}

std::optional<LoopDevice> LoopDevice::make(const TemporaryFile& file, std::uint32_t block_size) {
  if (::geteuid() != 0) {
    std::puts("skipped: loop devices need root");
    return std::nullopt;
  }
  const auto path = output_of("losetup --find --show --direct-io=on --sector-size " +
                              std::to_string(block_size) + " '" + file.path() + "'");
  if (path.empty()) {
    std::puts("skipped: losetup cannot make a loop device here");
    return std::nullopt;
  }
  return LoopDevice(path);
}

LoopDevice::LoopDevice(LoopDevice&& other) noexcept : path_(std::exchange(other.path_, "")) {}

LoopDevice::~LoopDevice() {
  if (!path_.empty()) output_of("losetup --detach '" + path_ + "'");
}

}  // namespace test
