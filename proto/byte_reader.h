// Reads a variable payload front to back. A read past the end yields zero (or nothing) and makes
// the reader fail for good, so that one look at the end suffices: at_end() is true only when
// everything was there and nothing is left over. The bytes belong to the caller and outlive what
// text() gives.
#pragma once

#include <boost/endian/conversion.hpp>
#include <cstddef>
#include <cstdint>
#include <span>
#include <string_view>

namespace proto {

class ByteReader {
 public:
  explicit ByteReader(std::span<const std::byte> bytes) noexcept : rest_(bytes) {}

  std::uint16_t u16() noexcept { return number<std::uint16_t>(); }
  std::uint32_t u32() noexcept { return number<std::uint32_t>(); }
  std::uint64_t u64() noexcept { return number<std::uint64_t>(); }

  std::string_view text(std::size_t length) noexcept {
    const auto bytes = take(length);
    return {reinterpret_cast<const char*>(bytes.data()), bytes.size()};
  }

  bool ok() const noexcept { return ok_; }
  bool at_end() const noexcept { return ok_ && rest_.empty(); }

 private:
  template <typename Number>
  Number number() noexcept {
    const auto bytes = take(sizeof(Number));
    if (bytes.empty()) return 0;
    const auto* first = reinterpret_cast<const unsigned char*>(bytes.data());
    return boost::endian::endian_load<Number, sizeof(Number), boost::endian::order::big>(first);
  }

  std::span<const std::byte> take(std::size_t length) noexcept {
    if (!ok_ || length > rest_.size()) {
      ok_ = false;
      return {};
    }
    const auto taken = rest_.first(length);
    rest_ = rest_.subspan(length);
    return taken;
  }

  std::span<const std::byte> rest_;
  bool ok_ = true;
};

}  // namespace proto
