// One buffer divided for BLOCK_STATUS: what the device reports, the same as the protocol's extents,
// and these encoded.
#pragma once

#include <cstddef>
#include <span>

#include "engine/io.h"
#include "proto/reply.h"

namespace server {

struct BlockStatusBuffer {
  explicit BlockStatusBuffer(std::span<std::byte> memory) noexcept
      : count(memory.size() /
              (sizeof(engine::Extent) + sizeof(proto::StatusExtent) + encoded_size_max)),
        extents(reinterpret_cast<engine::Extent*>(memory.data()), count),
        status(reinterpret_cast<proto::StatusExtent*>(extents.data() + count), count),
        encoded(reinterpret_cast<std::byte*>(status.data() + count), count * encoded_size_max) {}

  static constexpr std::size_t encoded_size_max =
      16;  // bytes of one extent, under extended headers

  std::size_t count;
  std::span<engine::Extent> extents;
  std::span<proto::StatusExtent> status;
  std::span<std::byte> encoded;
};
static_assert(sizeof(engine::Extent) % alignof(proto::StatusExtent) == 0);

}  // namespace server
