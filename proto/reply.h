// The server's side of the transmission phase: encodes reply headers in front of payloads that are
// not copied. Pure functions, callable from any thread. Each writes to the front of `out`, which
// must hold reply_header_size_max bytes, and returns how many bytes it wrote.
// Spec: "Simple reply message", "Structured reply chunk message", "Structured reply types", and
// "Extended reply chunk message" in the EXTENDED_HEADERS extension.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <string_view>

#include "proto/constants.h"
#include "proto/request.h"

namespace proto {

inline constexpr std::size_t simple_reply_size = 16;
// The longest header before a payload: an extended chunk header (32), and an OFFSET_HOLE (12).
inline constexpr std::size_t reply_header_size_max = 48;

// Which request a chunk answers. The offset goes into extended headers only.
struct ReplyTo {
  HeaderStyle style = HeaderStyle::simple;
  std::uint64_t cookie = 0;
  std::uint64_t request_offset = 0;
};

// For style simple: always. With structured headers never after READ; with extended ones never.
std::size_t encode_simple_reply(std::span<std::byte> out, std::uint64_t cookie,
                                Error error) noexcept;

// The rest are for structured and extended headers only.
// The last chunk of a successful reply without content (NBD_REPLY_TYPE_NONE).
std::size_t encode_none_chunk(std::span<std::byte> out, const ReplyTo& to) noexcept;
// The header of OFFSET_DATA; `length` (> 0, < 2^32 - 8) bytes of data must follow.
std::size_t encode_data_chunk(std::span<std::byte> out, const ReplyTo& to, std::uint64_t offset,
                              std::uint32_t length, bool done) noexcept;
// A whole OFFSET_HOLE; `length` > 0.
std::size_t encode_hole_chunk(std::span<std::byte> out, const ReplyTo& to, std::uint64_t offset,
                              std::uint32_t length, bool done) noexcept;
// The header of an ERROR chunk with DONE; `error` is not none, and the `text_length`
// (<= string_length_max) bytes of text must follow.
std::size_t encode_error_chunk(std::span<std::byte> out, const ReplyTo& to, Error error,
                               std::size_t text_length) noexcept;

// One extent of a metadata context.
struct StatusExtent {
  std::uint64_t length = 0;  // bytes, not zero
  std::uint32_t flags = 0;   // allocation_flag::*
};
inline constexpr std::size_t status_extent_count_max = std::size_t{1} << 20;

// Bytes that one extent takes in a BLOCK_STATUS (8) or BLOCK_STATUS_EXT (16) chunk.
std::size_t encoded_extent_size(HeaderStyle style) noexcept;

// The header of a BLOCK_STATUS(_EXT) chunk, context id (and extent count) included; `extent_count`
// is from 1 to status_extent_count_max, and encode_extents() follows.
std::size_t encode_block_status_chunk(std::span<std::byte> out, const ReplyTo& to,
                                      std::uint32_t context_id, std::size_t extent_count,
                                      bool done) noexcept;
// Encodes the extents; `out` holds extents.size() * encoded_extent_size(style) bytes. Lengths must
// have been through fit_extents().
void encode_extents(std::span<std::byte> out, HeaderStyle style,
                    std::span<const StatusExtent> extents) noexcept;

// A longer extent does not fit a 32-bit length and is cut to this: a multiple of every minimum
// block size there can be (at most 2^16), so that the client's next request is aligned.
inline constexpr std::uint64_t compact_extent_length_max = (std::uint64_t{1} << 32) - (1U << 16);

// Makes extents that start at the request's offset obey the rules of the reply: neighbours with
// equal flags are merged, none is empty, the first N-1 sum to less than `request_length`, there are
// at most status_extent_count_max, lengths fit the style (what does not fit 32 bits is clamped to
// compact_extent_length_max, and what follows a clamped one is dropped), and with `req_one` there
// is exactly one, within the request. `request_length` is not zero; validate() refuses that.
// Returns how many of the leading `extents` remain: at least one when any of them is not empty.
std::size_t fit_extents(std::span<StatusExtent> extents, HeaderStyle style,
                        std::uint64_t request_length, bool req_one) noexcept;

}  // namespace proto
