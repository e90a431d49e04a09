// Bytes for tests, written down without the code under test: as a pattern, as hexadecimal text,
// or piece by piece.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <string_view>
#include <vector>

namespace test {

using Bytes = std::vector<std::byte>;

// Bytes that differ from one place, and one seed, to the next. None is zero, so that lost bytes do
// not look like holes.
inline Bytes pattern(std::size_t length, std::uint64_t seed) {
  Bytes bytes(length);
  std::uint64_t state = seed;
  for (std::byte& byte : bytes) {
    state = state * 6364136223846793005U + 1442695040888963407U;
    byte = static_cast<std::byte>(1 + (state >> 33) % 255);
  }
  return bytes;
}

// "00 01ff" -> three bytes. Blanks are ignored; only lower-case digits.
inline Bytes from_hex(std::string_view text) {
  Bytes bytes;
  unsigned digits = 0;
  unsigned value = 0;
  for (const char c : text) {
    if (c == ' ' || c == '\n') continue;
    value = value * 16 + static_cast<unsigned>(c >= 'a' ? c - 'a' + 10 : c - '0');
    if (++digits % 2 == 0) {
      bytes.push_back(static_cast<std::byte>(value & 0xff));
      value = 0;
    }
  }
  return bytes;
}

// Comparing texts makes a failing check show both sides.
inline std::string to_hex(std::span<const std::byte> bytes) {
  static constexpr std::string_view digits = "0123456789abcdef";
  std::string text;
  for (const auto byte : bytes) {
    text += digits[std::to_integer<std::size_t>(byte) / 16];
    text += digits[std::to_integer<std::size_t>(byte) % 16];
  }
  return text;
}

// Numbers in network byte order and texts, one after the other.
class Builder {
 public:
  Builder& u16(std::uint64_t value) { return number(value, 2); }
  Builder& u32(std::uint64_t value) { return number(value, 4); }
  Builder& u64(std::uint64_t value) { return number(value, 8); }
  Builder& text(std::string_view text) {
    for (const char c : text) bytes_.push_back(static_cast<std::byte>(c));
    return *this;
  }
  Builder& bytes(std::span<const std::byte> bytes) {
    bytes_.insert(bytes_.end(), bytes.begin(), bytes.end());
    return *this;
  }
  const Bytes& get() const { return bytes_; }

 private:
  Builder& number(std::uint64_t value, unsigned size) {
    while (size-- > 0) bytes_.push_back(static_cast<std::byte>(value >> (8 * size) & 0xff));
    return *this;
  }

  Bytes bytes_;
};

}  // namespace test
