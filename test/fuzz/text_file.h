// A file in memory that a parser is given by its path.
#pragma once

#include <sys/mman.h>
#include <unistd.h>

#include <cstddef>
#include <string>

#include "test/fuzz/fuzz.h"

namespace fuzz {

class TextFile {
 public:
  TextFile() : file_(::memfd_create("fuzz", MFD_CLOEXEC)) {
    require(file_ >= 0, "there is a file in memory");
  }
  ~TextFile() { ::close(file_); }
  TextFile(const TextFile&) = delete;
  TextFile& operator=(const TextFile&) = delete;

  void write(const std::uint8_t* bytes, std::size_t size) {
    const auto written = ::ftruncate(file_, 0) == 0 ? ::pwrite(file_, bytes, size, 0) : -1;
    require(written == static_cast<ssize_t>(size), "the file holds the text");
  }
  void resize(std::uint64_t size) {
    require(::ftruncate(file_, static_cast<off_t>(size)) == 0, "the file has that size");
  }
  std::string path() const { return "/proc/self/fd/" + std::to_string(file_); }

 private:
  const int file_;
};

}  // namespace fuzz
