// The client's side of the transmission phase: request headers and what makes a request valid.
// Pure functions, callable from any thread. Spec: "Request message", "Command flags",
// "Request types", and for the 32-byte header the EXTENDED_HEADERS extension.
#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>
#include <string_view>

#include "proto/constants.h"
#include "proto/meta_context.h"

namespace proto {

// The form of the headers of both directions, settled by the handshake.
enum class HeaderStyle : std::uint8_t {
  simple,      // 28-byte requests, simple replies
  structured,  // 28-byte requests, structured reply chunks
  extended,    // 32-byte requests, extended reply chunks
};

inline constexpr std::size_t compact_request_size = 28;
inline constexpr std::size_t extended_request_size = 32;
inline constexpr std::size_t request_size_max = extended_request_size;

constexpr std::size_t request_size(HeaderStyle style) noexcept {
  return style == HeaderStyle::extended ? extended_request_size : compact_request_size;
}

// A request as the client sent it. `command` may hold a value that Command does not name.
struct RequestHeader {
  std::uint16_t flags = 0;
  Command command = Command::read;
  std::uint64_t cookie = 0;  // opaque; goes back bit for bit
  std::uint64_t offset = 0;  // bytes
  std::uint64_t length = 0;  // bytes; effect or payload length, see Verdict::payload_length
};

// Decodes one header of exactly request_size(style) bytes. Nothing when the size or the magic is
// wrong: the stream has lost its framing and the connection must be closed.
std::optional<RequestHeader> decode_request(std::span<const std::byte> header,
                                            HeaderStyle style) noexcept;

// The requests that the handshake and the export allow this client.
struct RequestRules {
  std::uint64_t export_size = 0;         // bytes
  std::uint16_t transmission_flags = 0;  // as told to the client
  HeaderStyle header_style = HeaderStyle::simple;
  std::uint32_t payload_length_max = 0;  // bytes; as told to the client
  bool block_status_selected = false;    // at least one metadata context is selected
};

struct Verdict {
  Error error = Error::none;         // none: carry the request out
  std::string_view reason;           // for people, static storage, set when error is
  std::uint64_t payload_length = 0;  // bytes after the header; to be consumed whatever `error` says
  bool disconnect = false;           // the framing cannot be trusted or the payload is absurd
  bool payload_flag_missing = false;  // a WRITE in extended headers lacks PAYLOAD_LEN; no error
};

// A READ with DF longer than this is refused with EOVERFLOW; the spec demands at least 64 KiB. It
// leaves the blocks around an unaligned read room in a buffer of 1 MiB.
inline constexpr std::uint64_t df_length_max = (std::uint64_t{1} << 20) - (std::uint64_t{64} << 10);
// READs and WRITEs are served up to so many times the payload_length_max that was told: clients
// exist that never ask for it, and what is done in pieces holds no more memory.
inline constexpr std::uint64_t served_payload_factor = 2;
// A payload beyond payload_length_max and this much more disconnects the client; up to there one
// that is not served is refused and consumed.
inline constexpr std::uint64_t excess_payload_length_max = std::uint64_t{64} << 20;
// The same for extended headers, where the extension wants a disconnect already beyond the maximum:
// beyond what is served here; but what the spec calls the default maximum is consumed also where
// payload_length_max is less.
inline constexpr std::uint64_t default_payload_length_max = std::uint64_t{32} << 20;

// Answers every question about a request before any work is done for it: known command, allowed
// flags, read-only, offered, range within the export (offset + length may wrap), limits.
//
// DISC is always valid and has no payload. A zero length is valid and has no effect, but for
// BLOCK_STATUS: its answer could not contain the extent that every answer must.
//
// The extension wants PAYLOAD_LEN on each WRITE, and qemu (8.2 to 10.0 at least) never sets it. A
// WRITE is followed by `length` bytes with the flag or without: no client means anything else, and
// to take the bytes for requests would let file contents command the server.
//
// BLOCK_STATUS with PAYLOAD_LEN: a verdict without error covers the header only. Pass the
// payload to parse_block_status_payload(), then a request without the flag and with the effect
// length to this function.
Verdict validate(const RequestHeader& request, const RequestRules& rules) noexcept;

// The payload of a BLOCK_STATUS request with PAYLOAD_LEN (BLOCK_STAT_PAYLOAD was negotiated): the
// effect length and the ids of the contexts to report. Nothing when it is malformed, names an id
// twice or one that is not among `selected`, or its length does not match.
struct BlockStatusPayload {
  std::uint64_t effect_length = 0;  // bytes
  ContextIds contexts;              // may be empty
};
std::optional<BlockStatusPayload> parse_block_status_payload(std::span<const std::byte> payload,
                                                             const ContextIds& selected) noexcept;
// Bytes; longer ones are refused, and consumed.
inline constexpr std::size_t block_status_payload_length_max = 8 + 4 * 16;

}  // namespace proto
