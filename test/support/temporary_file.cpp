#include "test/support/temporary_file.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <cstdlib>
#include <cstring>
#include <stdexcept>

#include "engine/file_descriptor.h"

namespace test {
namespace {

using engine::FileDescriptor;

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

}  // namespace

TemporaryFile::TemporaryFile(const std::string& folder, std::uint64_t size)
    : path_(folder + "/loopnbd-XXXXXX") {
  const FileDescriptor file(::mkstemp(path_.data()));
  if (!file) fail(path_);
  resize(size);
}

TemporaryFile::TemporaryFile(std::string_view text) : TemporaryFile("/tmp", 0) { replace(text); }

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

Bytes TemporaryFile::read(std::uint64_t offset, std::size_t length) const {
  const auto file = open_file(path_, O_RDONLY);
  Bytes bytes(length);
  const auto got = ::pread(file.get(), bytes.data(), length, static_cast<off_t>(offset));
  if (got < 0) fail(path_);
  bytes.resize(static_cast<std::size_t>(got));
  return bytes;
}

void TemporaryFile::write(std::uint64_t offset, std::span<const std::byte> bytes) const {
  const auto file = open_file(path_, O_WRONLY);
  const auto put = ::pwrite(file.get(), bytes.data(), bytes.size(), static_cast<off_t>(offset));
  if (put != static_cast<ssize_t>(bytes.size())) fail(path_);
}

void TemporaryFile::replace(std::string_view text) const {
  resize(0);
  write(0, std::as_bytes(std::span(text)));
}

}  // namespace test
