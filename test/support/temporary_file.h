// A file of a test's own, removed at the end.
#pragma once

#include <unistd.h>

#include <cstdio>
#include <cstdlib>
#include <fstream>
#include <stdexcept>
#include <string>

namespace test {

class TemporaryFile {
 public:
  explicit TemporaryFile(const std::string& text) {
    const auto fd = ::mkstemp(path.data());
    if (fd < 0) throw std::runtime_error("cannot make " + path);
    ::close(fd);
    write(text);
  }
  ~TemporaryFile() { std::remove(path.c_str()); }
  TemporaryFile(const TemporaryFile&) = delete;
  TemporaryFile& operator=(const TemporaryFile&) = delete;

  void write(const std::string& text) const { std::ofstream(path) << text; }

  std::string path = "/tmp/loopnbd-test-XXXXXX";
};

}  // namespace test
