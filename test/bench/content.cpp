#include "test/bench/content.h"

#include <algorithm>
#include <cstring>

#include "test/bench/random.h"

namespace bench {

Content::Content(std::uint64_t seed, std::size_t span_length_max)
    : table_(period + span_length_max) {
  Random random(seed);
  for (std::size_t i = 0; i < period; i += sizeof(std::uint64_t)) {
    const std::uint64_t word = random.next();
    const std::size_t room = std::min(sizeof word, table_.size() - i);
    std::memcpy(&table_[i], &word, room);
  }
  for (std::size_t i = period; i < table_.size(); ++i) table_[i] = table_[i - period];
}

std::optional<std::size_t> Content::mismatch(std::uint64_t offset,
                                             std::span<const std::byte> found) const noexcept {
  const auto expected = at(offset, found.size());
  if (std::memcmp(expected.data(), found.data(), found.size()) == 0) return std::nullopt;
  const auto differing = std::mismatch(found.begin(), found.end(), expected.begin()).first;
  return static_cast<std::size_t>(differing - found.begin());
}

}  // namespace bench
