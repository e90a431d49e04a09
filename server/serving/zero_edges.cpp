#include "server/serving/zero_edges.h"

#include <algorithm>
#include <cstring>

namespace server {
namespace {

bool is_zero(const std::byte* bytes, std::size_t count) noexcept {
  // Compares the bytes with themselves, one further on: the first must be zero, then all are.
  return count == 0 || (*bytes == std::byte{0} && std::memcmp(bytes, bytes + 1, count - 1) == 0);
}

}  // namespace

ZeroEdges find_zero_edges(std::span<const std::byte> data, std::uint64_t offset,
                          std::size_t unit) noexcept {
  auto edges = ZeroEdges{};
  const auto first_step = unit - static_cast<std::size_t>(offset & (unit - 1));
  auto begin = std::size_t{0};
  for (auto step = first_step; begin < data.size(); step = unit) {
    const auto length = std::min(step, data.size() - begin);
    if (!is_zero(data.data() + begin, length)) break;
    begin += length;
  }
  edges.leading = begin;
  auto end = data.size();
  const auto last_step = static_cast<std::size_t>((offset + end) & (unit - 1));
  for (auto step = last_step == 0 ? unit : last_step; end > begin; step = unit) {
    const auto length = std::min(step, end - begin);
    if (!is_zero(data.data() + end - length, length)) break;
    end -= length;
  }
  edges.trailing = data.size() - end;
  return edges;
}

}  // namespace server
