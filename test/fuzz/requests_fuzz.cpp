// A stream of requests as the transmission phase reads it: header, verdict, payload, next header.
// A request that is let through keeps within the export and within what was told to the client.
#include <algorithm>
#include <limits>

#include "proto/request.h"
#include "test/fuzz/fuzz.h"
#include "test/fuzz/request_rules.h"
#include "test/support/bytes.h"

using fuzz::require;
using proto::Command;
using proto::Error;
using proto::HeaderStyle;
using proto::RequestHeader;
using proto::RequestRules;
using proto::Verdict;
namespace flag = proto::command_flag;
namespace told = proto::transmission_flag;

namespace {

bool has(unsigned flags, unsigned wanted) { return (flags & wanted) != 0; }

bool writes(Command command) {
  return command == Command::write || command == Command::write_zeroes || command == Command::trim;
}

// Said differently from the code under test: with a sum, and a question whether it wrapped.
bool within(const RequestHeader& request, const RequestRules& rules) {
  std::uint64_t end = 0;
  return !__builtin_add_overflow(request.offset, request.length, &end) && end <= rules.export_size;
}

test::Bytes encode(const RequestHeader& request, HeaderStyle style) {
  const bool extended = style == HeaderStyle::extended;
  test::Builder header;
  header.u32(extended ? proto::extended_request_magic : proto::request_magic);
  header.u16(request.flags).u16(static_cast<std::uint16_t>(request.command));
  header.u64(request.cookie).u64(request.offset);
  if (extended) header.u64(request.length);
  if (!extended) header.u32(request.length);
  return header.get();
}

void check_accepted_flags(const RequestHeader& request, const RequestRules& rules) {
  const unsigned flags = request.flags;
  const unsigned offered = rules.transmission_flags;
  const auto command = request.command;
  const bool extended = rules.header_style == HeaderStyle::extended;
  require((flags & ~0x3fU) == 0, "no unknown flags");
  if (has(flags, flag::fua)) require(has(offered, told::send_fua), "FUA was offered");
  if (has(flags, flag::df))
    require(command == Command::read && has(offered, told::send_df), "DF on READ, if offered");
  if (has(flags, flag::no_hole)) require(command == Command::write_zeroes, "NO_HOLE");
  if (has(flags, flag::fast_zero))
    require(command == Command::write_zeroes && has(offered, told::send_fast_zero), "FAST_ZERO");
  if (has(flags, flag::req_one)) require(command == Command::block_status, "REQ_ONE");
  if (has(flags, flag::payload_length))
    require(extended && (command == Command::write || command == Command::block_status),
            "PAYLOAD_LEN");
}

void check_accepted(const RequestHeader& request, const RequestRules& rules,
                    const Verdict& verdict) {
  const auto command = request.command;
  const unsigned offered = rules.transmission_flags;
  if (command == Command::disconnect) return;
  require(command <= Command::block_status, "only known commands");
  check_accepted_flags(request, rules);
  if (writes(command)) require(!has(offered, told::read_only), "nothing writes to read-only");
  if (command == Command::trim) require(has(offered, told::send_trim), "TRIM was offered");
  if (command == Command::flush) require(has(offered, told::send_flush), "FLUSH was offered");
  if (command == Command::cache) require(has(offered, told::send_cache), "CACHE was offered");
  if (command == Command::write_zeroes)
    require(has(offered, told::send_write_zeroes), "WRITE_ZEROES was offered");
  if (command == Command::read || command == Command::write)
    require(request.length / 2 <= rules.payload_length_max, "twice the maximum payload at most");
  if (command == Command::write)
    require(verdict.payload_length == request.length, "a write has its bytes");
  if (command == Command::block_status)
    require(rules.block_status_selected && rules.header_style != HeaderStyle::simple,
            "block status was negotiated");

  const bool range_in_payload =
      command == Command::block_status && has(request.flags, flag::payload_length);
  if (command != Command::flush && !range_in_payload)
    require(within(request, rules), "nothing beyond the export");
  if (command == Command::block_status && !range_in_payload)
    require(request.length > 0, "block status of something");
}

void check_verdict(const RequestHeader& request, const RequestRules& rules,
                   const Verdict& verdict) {
  require(verdict.reason.empty() == (verdict.error == Error::none), "refusals say why");
  require(!verdict.disconnect || verdict.error != Error::none, "disconnects are refusals");
  if (!verdict.disconnect)
    require(
        verdict.payload_length <=
            rules.payload_length_max + std::max<std::uint64_t>(rules.payload_length_max, 64U << 20),
        "no absurd payload is consumed");
  const auto command = request.command;
  switch (verdict.error) {
    case Error::none:
      return check_accepted(request, rules, verdict);
    case Error::no_space:
      return require(command == Command::write || command == Command::write_zeroes, "ENOSPC");
    case Error::overflow:
      return require(command == Command::read, "EOVERFLOW");
    case Error::perm:
      return require(writes(command) && has(rules.transmission_flags, told::read_only), "EPERM");
    default:
      return require(verdict.error == Error::invalid, "no other errors");
  }
}

// Follows the server through the payload form of block status.
void check_block_status_payload(RequestHeader request, const RequestRules& rules,
                                std::span<const std::byte> payload) {
  auto selected = proto::ContextIds();
  selected.add(proto::allocation_context_id);
  const auto parsed = proto::parse_block_status_payload(payload, selected);
  if (!parsed) return;
  request.flags &= static_cast<std::uint16_t>(~flag::payload_length);
  request.length = parsed->effect_length;
  const auto verdict = proto::validate(request, rules);
  require(verdict.payload_length == 0, "there is no second payload");
  check_verdict(request, rules, verdict);
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* bytes, std::size_t size) {
  fuzz::Input in(bytes, size);
  const auto rules = fuzz::carve_request_rules(in);
  const auto header_size = proto::request_size(rules.header_style);
  auto stream = in.rest();
  while (stream.size() >= header_size) {
    const auto header = stream.first(header_size);
    const auto request = proto::decode_request(header, rules.header_style);
    if (!request) break;
    const auto again = encode(*request, rules.header_style);
    require(std::equal(again.begin(), again.end(), header.begin(), header.end()),
            "a request encodes to what was decoded");

    const auto verdict = proto::validate(*request, rules);
    check_verdict(*request, rules, verdict);
    if (verdict.disconnect || request->command == Command::disconnect) break;
    stream = stream.subspan(header_size);
    if (verdict.payload_length > stream.size()) break;
    const auto payload = stream.first(static_cast<std::size_t>(verdict.payload_length));
    if (request->command == Command::block_status && verdict.error == Error::none &&
        has(request->flags, flag::payload_length))
      check_block_status_payload(*request, rules, payload);
    stream = stream.subspan(payload.size());
  }
  return 0;
}
