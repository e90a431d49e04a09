// One buffer divided for BLOCK_STATUS: what the device reports, the same as the protocol's extents
// of one metadata context, and the chunks of all contexts, encoded.
#pragma once

#include <cstddef>
#include <span>

#include "engine/io.h"
#include "proto/reply.h"

namespace server {

struct BlockStatusBuffer {
  // `contexts`: how many are reported, at least one.
  BlockStatusBuffer(std::span<std::byte> memory, std::size_t contexts) noexcept
      : count((memory.size() - contexts * proto::reply_header_size_max) /
              (sizeof(engine::Extent) + sizeof(proto::StatusExtent) + contexts * encoded_size_max)),
        extents(reinterpret_cast<engine::Extent*>(memory.data()), count),
        status(reinterpret_cast<proto::StatusExtent*>(extents.data() + count), count),
        encoded(memory.subspan(count * (sizeof(engine::Extent) + sizeof(proto::StatusExtent)))) {}

  static constexpr std::size_t encoded_size_max =
      16;  // bytes of one extent, under extended headers

  std::size_t count;
  std::span<engine::Extent> extents;
  std::span<proto::StatusExtent> status;
  std::span<std::byte> encoded;
};
static_assert(sizeof(engine::Extent) % alignof(proto::StatusExtent) == 0);

}  // namespace server
