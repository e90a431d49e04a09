// The numbers of the NBD protocol, in the order of the specification's section "Values".
#pragma once

#include <cstddef>
#include <cstdint>

namespace proto {

// "Newstyle negotiation", "Request message", "Reserved Magic values".
inline constexpr std::uint64_t greeting_magic = 0x4e42444d41474943;  // NBDMAGIC
inline constexpr std::uint64_t option_magic = 0x49484156454f5054;    // IHAVEOPT
inline constexpr std::uint64_t option_reply_magic = 0x0003e889045565a9;
inline constexpr std::uint32_t request_magic = 0x25609513;
inline constexpr std::uint32_t simple_reply_magic = 0x67446698;
inline constexpr std::uint32_t structured_reply_magic = 0x668e33ef;
inline constexpr std::uint32_t extended_request_magic = 0x21e41c71;
inline constexpr std::uint32_t extended_reply_magic = 0x6e8a278c;

inline constexpr std::size_t string_length_max = 4096;  // bytes; "Conventions"
inline constexpr std::size_t reserved_zeroes = 124;     // bytes; "Newstyle negotiation"

// "Handshake flags" and "Client flags" have the same bits.
namespace handshake_flag {
inline constexpr std::uint16_t fixed_newstyle = 1U << 0;
inline constexpr std::uint16_t no_zeroes = 1U << 1;
}  // namespace handshake_flag

namespace transmission_flag {
inline constexpr std::uint16_t has_flags = 1U << 0;
inline constexpr std::uint16_t read_only = 1U << 1;
inline constexpr std::uint16_t send_flush = 1U << 2;
inline constexpr std::uint16_t send_fua = 1U << 3;
inline constexpr std::uint16_t rotational = 1U << 4;
inline constexpr std::uint16_t send_trim = 1U << 5;
inline constexpr std::uint16_t send_write_zeroes = 1U << 6;
inline constexpr std::uint16_t send_df = 1U << 7;
inline constexpr std::uint16_t can_multi_conn = 1U << 8;
inline constexpr std::uint16_t send_cache = 1U << 10;
inline constexpr std::uint16_t send_fast_zero = 1U << 11;
inline constexpr std::uint16_t block_status_payload = 1U << 12;
}  // namespace transmission_flag

// "Option types".
enum class Option : std::uint32_t {
  export_name = 1,
  abort = 2,
  list = 3,
  start_tls = 5,
  info = 6,
  go = 7,
  structured_reply = 8,
  list_meta_context = 9,
  set_meta_context = 10,
  extended_headers = 11,
};

// "Option reply types".
enum class OptionReply : std::uint32_t {
  ack = 1,
  server = 2,
  info = 3,
  meta_context = 4,
  error_unsupported = 0x80000001,
  error_policy = 0x80000002,
  error_invalid = 0x80000003,
  error_platform = 0x80000004,
  error_tls_required = 0x80000005,
  error_unknown = 0x80000006,
  error_shutdown = 0x80000007,
  error_block_size_required = 0x80000008,
  error_too_big = 0x80000009,
  error_extended_header_required = 0x8000000a,
};

// "NBD_REP_INFO".
enum class Information : std::uint16_t {
  export_info = 0,
  name = 1,
  description = 2,
  block_size = 3,
};

namespace command_flag {
inline constexpr std::uint16_t fua = 1U << 0;
inline constexpr std::uint16_t no_hole = 1U << 1;
inline constexpr std::uint16_t df = 1U << 2;
inline constexpr std::uint16_t req_one = 1U << 3;
inline constexpr std::uint16_t fast_zero = 1U << 4;
inline constexpr std::uint16_t payload_length = 1U << 5;  // NBD_CMD_FLAG_PAYLOAD_LEN
}  // namespace command_flag

// "Structured reply flags".
inline constexpr std::uint16_t reply_flag_done = 1U << 0;

// "Structured reply types".
enum class ReplyType : std::uint16_t {
  none = 0,
  offset_data = 1,
  offset_hole = 2,
  block_status = 5,
  block_status_ext = 6,
  error = 0x8001,
  error_offset = 0x8002,
};

// "Request types".
enum class Command : std::uint16_t {
  read = 0,
  write = 1,
  disconnect = 2,
  flush = 3,
  trim = 4,
  cache = 5,
  write_zeroes = 6,
  block_status = 7,
};

// "Error values": the only ones that leave the server.
enum class Error : std::uint32_t {
  none = 0,
  perm = 1,
  io = 5,
  no_memory = 12,
  invalid = 22,
  no_space = 28,
  overflow = 75,
  not_supported = 95,
  shutdown = 108,
};

// "`base:allocation` metadata context".
namespace allocation_flag {
inline constexpr std::uint32_t hole = 1U << 0;
inline constexpr std::uint32_t zero = 1U << 1;
}  // namespace allocation_flag

}  // namespace proto
