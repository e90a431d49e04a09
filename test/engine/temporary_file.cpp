#include "test/engine/temporary_file.h"

#include <fcntl.h>
#include <sys/mount.h>
#include <sys/stat.h>
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

#include "engine/file_descriptor.h"

namespace engine::test {

namespace {

[[noreturn]] void fail(const std::string& what) {
  throw std::runtime_error(what + ": " + std::strerror(errno));
}

FileDescriptor open_file(const std::string& path, int flags) {
  FileDescriptor file(::open(path.c_str(), flags | O_CLOEXEC));
  if (!file) fail(path);
  return file;
}

struct stat status_of(const std::string& path) {
  struct stat status {};
  if (::stat(path.c_str(), &status) != 0) fail(path);
  return status;
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

TemporaryFile::TemporaryFile(const std::string& folder, std::uint64_t size)
    : path_(folder + "/loopnbd-XXXXXX") {
  const FileDescriptor file(::mkstemp(path_.data()));
  if (!file) fail(path_);
  resize(size);
}

TemporaryFile::~TemporaryFile() { ::unlink(path_.c_str()); }

std::uint64_t TemporaryFile::size() const {
  return static_cast<std::uint64_t>(status_of(path_).st_size);
}

std::uint64_t TemporaryFile::allocated() const {
  return static_cast<std::uint64_t>(status_of(path_).st_blocks) * 512;
}

void TemporaryFile::resize(std::uint64_t size) const {
  if (::truncate(path_.c_str(), static_cast<off_t>(size)) != 0) fail(path_);
}

std::vector<std::byte> TemporaryFile::read(std::uint64_t offset, std::size_t length) const {
  const auto file = open_file(path_, O_RDONLY);
  std::vector<std::byte> bytes(length);
  const auto got = ::pread(file.get(), bytes.data(), length, static_cast<off_t>(offset));
  if (got < 0) fail(path_);
  bytes.resize(static_cast<std::size_t>(got));
  return bytes;
}

void TemporaryFile::write(std::uint64_t offset, const std::vector<std::byte>& bytes) const {
  const auto file = open_file(path_, O_WRONLY);
  const auto put = ::pwrite(file.get(), bytes.data(), bytes.size(), static_cast<off_t>(offset));
  if (put != static_cast<ssize_t>(bytes.size())) fail(path_);
}

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

}  // namespace engine::test
