// The content of a benchmarked image: a deterministic function of the offset, so that any read can
// be checked without remembering the writes. Immutable after construction; shared by all threads.
//
// The bytes repeat after `period`, which lets a write send them from one table without generating
// anything. The period is eight times an odd number: two blocks of 4 KiB look alike only when they
// lie 512 periods (512 MiB) apart, so data served from a wrong offset does not pass.
#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>
#include <vector>

namespace bench {

class Content {
 public:
  static constexpr std::size_t period = 8 * 131'101;  // bytes

  // `span_length_max`: the longest span that is ever asked for. Contents of different seeds differ
  // everywhere.
  Content(std::uint64_t seed, std::size_t span_length_max);

  // The contents of [offset, offset + length); length <= span_length_max.
  std::span<const std::byte> at(std::uint64_t offset, std::size_t length) const noexcept {
    return std::span(table_).subspan(static_cast<std::size_t>(offset % period), length);
  }

  // Where `found`, read from `offset` of the image, first differs from the contents: an index into
  // `found`.
  std::optional<std::size_t> mismatch(std::uint64_t offset,
                                      std::span<const std::byte> found) const noexcept;

 private:
  std::vector<std::byte> table_;
};

}  // namespace bench
