// A file of a test's own, removed at the end. Throws std::runtime_error when something is not
// possible.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <string_view>

#include "test/support/bytes.h"

namespace test {

class TemporaryFile {
 public:
  // Holds `text`, in the system's folder for temporary files.
  explicit TemporaryFile(std::string_view text);
  // `size` bytes, all of them a hole.
  TemporaryFile(const std::string& folder, std::uint64_t size);
  ~TemporaryFile();
  TemporaryFile(const TemporaryFile&) = delete;
  TemporaryFile& operator=(const TemporaryFile&) = delete;

  const std::string& path() const noexcept { return path_; }
  std::uint64_t size() const;
  std::uint64_t allocated() const;  // bytes
  void resize(std::uint64_t size) const;

  // By way of the page cache, as any other program would.
  Bytes read(std::uint64_t offset, std::size_t length) const;
  void write(std::uint64_t offset, std::span<const std::byte> bytes) const;
  void replace(std::string_view text) const;  // everything that it held

 private:
  std::string path_;
};

}  // namespace test
