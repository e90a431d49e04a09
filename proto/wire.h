// The fixed-size messages of the protocol as they are on the wire, in the order of the
// specification. Boost.Endian buffers have alignment 1 and give up their value only through
// .value(), so nobody can forget the byte order. Copy them in and out with load() and store().
#pragma once

#include <boost/endian/buffers.hpp>
#include <cstddef>
#include <cstring>
#include <span>
#include <type_traits>

namespace proto {

using boost::endian::big_uint16_buf_t;
using boost::endian::big_uint32_buf_t;
using boost::endian::big_uint64_buf_t;

struct WireGreeting {  // "Newstyle negotiation"
  big_uint64_buf_t greeting_magic;
  big_uint64_buf_t option_magic;
  big_uint16_buf_t handshake_flags;
};
static_assert(sizeof(WireGreeting) == 18 && alignof(WireGreeting) == 1);

struct WireClientFlags {  // "Newstyle negotiation"
  big_uint32_buf_t client_flags;
};
static_assert(sizeof(WireClientFlags) == 4 && alignof(WireClientFlags) == 1);

struct WireOption {  // "Newstyle negotiation"; `length` bytes of data follow
  big_uint64_buf_t magic;
  big_uint32_buf_t option;
  big_uint32_buf_t length;
};
static_assert(sizeof(WireOption) == 16 && alignof(WireOption) == 1);

struct WireOptionReply {  // "Fixed newstyle negotiation"; `length` bytes of data follow
  big_uint64_buf_t magic;
  big_uint32_buf_t option;
  big_uint32_buf_t type;
  big_uint32_buf_t length;
};
static_assert(sizeof(WireOptionReply) == 20 && alignof(WireOptionReply) == 1);

struct WireRequest {  // "Request message", compact
  big_uint32_buf_t magic;
  big_uint16_buf_t flags;
  big_uint16_buf_t command;
  big_uint64_buf_t cookie;
  big_uint64_buf_t offset;
  big_uint32_buf_t length;
};
static_assert(sizeof(WireRequest) == 28 && alignof(WireRequest) == 1);

struct WireExtendedRequest {  // "Request message", extended
  big_uint32_buf_t magic;
  big_uint16_buf_t flags;
  big_uint16_buf_t command;
  big_uint64_buf_t cookie;
  big_uint64_buf_t offset;
  big_uint64_buf_t length;
};
static_assert(sizeof(WireExtendedRequest) == 32 && alignof(WireExtendedRequest) == 1);

struct WireSimpleReply {  // "Simple reply message"
  big_uint32_buf_t magic;
  big_uint32_buf_t error;
  big_uint64_buf_t cookie;
};
static_assert(sizeof(WireSimpleReply) == 16 && alignof(WireSimpleReply) == 1);

struct WireStructuredChunk {  // "Structured reply chunk message"; `length` bytes follow
  big_uint32_buf_t magic;
  big_uint16_buf_t flags;
  big_uint16_buf_t type;
  big_uint64_buf_t cookie;
  big_uint32_buf_t length;
};
static_assert(sizeof(WireStructuredChunk) == 20 && alignof(WireStructuredChunk) == 1);

struct WireExtendedChunk {  // "Extended reply chunk message"; `length` bytes follow
  big_uint32_buf_t magic;
  big_uint16_buf_t flags;
  big_uint16_buf_t type;
  big_uint64_buf_t cookie;
  big_uint64_buf_t offset;
  big_uint64_buf_t length;
};
static_assert(sizeof(WireExtendedChunk) == 32 && alignof(WireExtendedChunk) == 1);

struct WireHole {  // NBD_REPLY_TYPE_OFFSET_HOLE
  big_uint64_buf_t offset;
  big_uint32_buf_t length;
};
static_assert(sizeof(WireHole) == 12 && alignof(WireHole) == 1);

struct WireErrorHeader {  // NBD_REPLY_TYPE_ERROR; `text_length` bytes of text follow
  big_uint32_buf_t error;
  big_uint16_buf_t text_length;
};
static_assert(sizeof(WireErrorHeader) == 6 && alignof(WireErrorHeader) == 1);

struct WireStatusHeader {  // NBD_REPLY_TYPE_BLOCK_STATUS_EXT; without the count: BLOCK_STATUS
  big_uint32_buf_t context_id;
  big_uint32_buf_t extent_count;
};
static_assert(sizeof(WireStatusHeader) == 8 && alignof(WireStatusHeader) == 1);

struct WireExtent {  // NBD_REPLY_TYPE_BLOCK_STATUS
  big_uint32_buf_t length;
  big_uint32_buf_t flags;
};
static_assert(sizeof(WireExtent) == 8 && alignof(WireExtent) == 1);

struct WireExtendedExtent {  // NBD_REPLY_TYPE_BLOCK_STATUS_EXT
  big_uint64_buf_t length;
  big_uint64_buf_t flags;
};
static_assert(sizeof(WireExtendedExtent) == 16 && alignof(WireExtendedExtent) == 1);

// `bytes` holds at least sizeof(Message).
template <typename Message>
Message load(std::span<const std::byte> bytes) noexcept {
  static_assert(std::is_trivially_copyable_v<Message>);
  Message message;
  std::memcpy(&message, bytes.data(), sizeof message);
  return message;
}

// Returns the number of bytes written. `out` holds at least sizeof(Message).
template <typename Message>
std::size_t store(std::span<std::byte> out, const Message& message) noexcept {
  static_assert(std::is_trivially_copyable_v<Message>);
  std::memcpy(out.data(), &message, sizeof message);
  return sizeof message;
}

}  // namespace proto
