// The parts that all fuzz targets share: how they fail, and how they carve settings out of an
// input.
#pragma once

#include <cstddef>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <span>

namespace fuzz {

// libFuzzer saves the input when the process aborts.
inline void require(bool condition, const char* what) {
  if (condition) return;
  std::fprintf(stderr, "broken: %s\n", what);
  std::abort();
}

// Numbers from the front of an input, big-endian; zero where the input has ended.
class Input {
 public:
  Input(const std::uint8_t* bytes, std::size_t size) : rest_(bytes, size) {}

  std::uint64_t number(unsigned size) {
    std::uint64_t value = 0;
    for (; size > 0; --size) {
      value = value << 8 | (rest_.empty() ? 0U : rest_.front());
      if (!rest_.empty()) rest_ = rest_.subspan(1);
    }
    return value;
  }
  std::uint8_t u8() { return static_cast<std::uint8_t>(number(1)); }
  std::uint16_t u16() { return static_cast<std::uint16_t>(number(2)); }
  std::uint32_t u32() { return static_cast<std::uint32_t>(number(4)); }
  std::uint64_t u64() { return number(8); }

  bool empty() const { return rest_.empty(); }
  std::span<const std::byte> rest() const { return std::as_bytes(rest_); }

 private:
  std::span<const std::uint8_t> rest_;
};

}  // namespace fuzz
