#include "proto/reply.h"

#include <algorithm>
#include <limits>

#include "proto/wire.h"

namespace proto {
namespace {

static_assert(simple_reply_size == sizeof(WireSimpleReply));
static_assert(reply_header_size_max >= sizeof(WireExtendedChunk) + sizeof(WireHole));

constexpr std::uint64_t compact_length_max = std::numeric_limits<std::uint32_t>::max();

std::size_t encode_chunk(std::span<std::byte> out, const ReplyTo& to, ReplyType type,
                         std::uint64_t payload_length, bool done) noexcept {
  const std::uint16_t flags = done ? reply_flag_done : std::uint16_t{0};
  if (to.style == HeaderStyle::extended) {
    WireExtendedChunk chunk;
    chunk.magic = extended_reply_magic;
    chunk.flags = flags;
    chunk.type = static_cast<std::uint16_t>(type);
    chunk.cookie = to.cookie;
    chunk.offset = to.request_offset;
    chunk.length = payload_length;
    return store(out, chunk);
  }
  WireStructuredChunk chunk;
  chunk.magic = structured_reply_magic;
  chunk.flags = flags;
  chunk.type = static_cast<std::uint16_t>(type);
  chunk.cookie = to.cookie;
  chunk.length = static_cast<std::uint32_t>(payload_length);
  return store(out, chunk);
}

// The sum of two lengths, or the largest length there is.
std::uint64_t saturated_sum(std::uint64_t a, std::uint64_t b) noexcept {
  return b > std::numeric_limits<std::uint64_t>::max() - a
             ? std::numeric_limits<std::uint64_t>::max()
             : a + b;
}

// Merges neighbours with equal flags and drops what is empty; returns how many remain in front.
std::size_t merge(std::span<StatusExtent> extents) noexcept {
  std::size_t count = 0;
  for (const auto extent : extents) {
    if (extent.length == 0) continue;
    if (count > 0 && extents[count - 1].flags == extent.flags) {
      auto& last = extents[count - 1];
      last.length = saturated_sum(last.length, extent.length);
    } else {
      extents[count++] = extent;
    }
  }
  return count;
}

}  // namespace

std::size_t encode_simple_reply(std::span<std::byte> out, std::uint64_t cookie,
                                Error error) noexcept {
  WireSimpleReply reply;
  reply.magic = simple_reply_magic;
  reply.error = static_cast<std::uint32_t>(error);
  reply.cookie = cookie;
  return store(out, reply);
}

std::size_t encode_none_chunk(std::span<std::byte> out, const ReplyTo& to) noexcept {
  return encode_chunk(out, to, ReplyType::none, 0, true);
}

std::size_t encode_data_chunk(std::span<std::byte> out, const ReplyTo& to, std::uint64_t offset,
                              std::uint32_t length, bool done) noexcept {
  big_uint64_buf_t wire_offset;
  wire_offset = offset;
  const auto payload_length = sizeof wire_offset + std::uint64_t{length};
  const auto size = encode_chunk(out, to, ReplyType::offset_data, payload_length, done);
  return size + store(out.subspan(size), wire_offset);
}

std::size_t encode_hole_chunk(std::span<std::byte> out, const ReplyTo& to, std::uint64_t offset,
                              std::uint32_t length, bool done) noexcept {
  WireHole hole;
  hole.offset = offset;
  hole.length = length;
  const auto size = encode_chunk(out, to, ReplyType::offset_hole, sizeof hole, done);
  return size + store(out.subspan(size), hole);
}

std::size_t encode_error_chunk(std::span<std::byte> out, const ReplyTo& to, Error error,
                               std::size_t text_length) noexcept {
  WireErrorHeader header;
  header.error = static_cast<std::uint32_t>(error);
  header.text_length = static_cast<std::uint16_t>(text_length);
  const auto size = encode_chunk(out, to, ReplyType::error, sizeof header + text_length, true);
  return size + store(out.subspan(size), header);
}

std::size_t encoded_extent_size(HeaderStyle style) noexcept {
  return style == HeaderStyle::extended ? sizeof(WireExtendedExtent) : sizeof(WireExtent);
}

std::size_t encode_block_status_chunk(std::span<std::byte> out, const ReplyTo& to,
                                      std::uint32_t context_id, std::size_t extent_count,
                                      bool done) noexcept {
  const auto extents_size = extent_count * encoded_extent_size(to.style);
  WireStatusHeader header;
  header.context_id = context_id;
  header.extent_count = static_cast<std::uint32_t>(extent_count);
  if (to.style == HeaderStyle::extended) {
    const auto size =
        encode_chunk(out, to, ReplyType::block_status_ext, sizeof header + extents_size, done);
    return size + store(out.subspan(size), header);
  }
  const auto size =
      encode_chunk(out, to, ReplyType::block_status, sizeof header.context_id + extents_size, done);
  return size + store(out.subspan(size), header.context_id);
}

void encode_extents(std::span<std::byte> out, HeaderStyle style,
                    std::span<const StatusExtent> extents) noexcept {
  for (const auto& extent : extents) {
    if (style == HeaderStyle::extended) {
      WireExtendedExtent wire;
      wire.length = extent.length;
      wire.flags = extent.flags;
      out = out.subspan(store(out, wire));
    } else {
      WireExtent wire;
      wire.length = static_cast<std::uint32_t>(extent.length);
      wire.flags = extent.flags;
      out = out.subspan(store(out, wire));
    }
  }
}

std::size_t fit_extents(std::span<StatusExtent> extents, HeaderStyle style,
                        std::uint64_t request_length, bool req_one) noexcept {
  const auto merged = extents.first(merge(extents));
  const std::size_t count_max = req_one ? 1 : status_extent_count_max;
  std::uint64_t described = 0;  // bytes before the current extent; less than request_length
  std::size_t count = 0;
  while (count < std::min(merged.size(), count_max) && described < request_length) {
    auto& extent = merged[count++];
    if (req_one) extent.length = std::min(extent.length, request_length);
    if (style != HeaderStyle::extended && extent.length > compact_length_max) {
      extent.length = compact_extent_length_max;
      break;
    }
    described = saturated_sum(described, extent.length);
  }
  return count;
}

}  // namespace proto
