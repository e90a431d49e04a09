// Finds the zeroes at both ends of data, so that a sparse READ can send holes instead. Dense data
// costs two looks.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>

namespace server {

struct ZeroEdges {
  std::size_t leading = 0;   // bytes; all of the data when there is nothing else
  std::size_t trailing = 0;  // bytes
};

// Edges are cut where the export's offset (data begins at `offset`) is a multiple of `unit`, a
// power of two, so that chunks stay aligned; data of nothing but zeroes is one leading edge.
ZeroEdges find_zero_edges(std::span<const std::byte> data, std::uint64_t offset,
                          std::size_t unit) noexcept;

}  // namespace server
