// Appends to a payload front to back, numbers in network byte order. The vector belongs to the
// caller and outlives the writer.
#pragma once

#include <boost/endian/conversion.hpp>
#include <cstddef>
#include <cstdint>
#include <span>
#include <string_view>
#include <vector>

namespace proto {

class ByteWriter {
 public:
  explicit ByteWriter(std::vector<std::byte>& out) noexcept : out_(out) {}

  void u16(std::uint16_t value) { number(value); }
  void u32(std::uint32_t value) { number(value); }
  void u64(std::uint64_t value) { number(value); }

  void bytes(std::span<const std::byte> bytes) {
    out_.insert(out_.end(), bytes.begin(), bytes.end());
  }
  void text(std::string_view text) { bytes(std::as_bytes(std::span(text))); }
  void zeroes(std::size_t count) { out_.resize(out_.size() + count); }

  // A message of wire.h.
  template <typename Message>
  void message(const Message& message) {
    bytes(std::as_bytes(std::span(&message, 1)));
  }

 private:
  template <typename Number>
  void number(Number value) {
    const auto big = boost::endian::native_to_big(value);
    bytes(std::as_bytes(std::span(&big, 1)));
  }

  std::vector<std::byte>& out_;
};

}  // namespace proto
