#include "proto/request.h"

#include <algorithm>

#include "proto/byte_reader.h"
#include "proto/wire.h"

namespace proto {
namespace {

static_assert(compact_request_size == sizeof(WireRequest));
static_assert(extended_request_size == sizeof(WireExtendedRequest));

// Why a request is refused; error none: it is not.
struct Refusal {
  Error error = Error::none;
  std::string_view reason;
};

template <typename Message>
std::optional<RequestHeader> decode(std::span<const std::byte> header,
                                    std::uint32_t magic) noexcept {
  if (header.size() != sizeof(Message)) return std::nullopt;
  const auto wire = load<Message>(header);
  if (wire.magic.value() != magic) return std::nullopt;

  RequestHeader request;
  request.flags = wire.flags.value();
  request.command = static_cast<Command>(wire.command.value());
  request.cookie = wire.cookie.value();
  request.offset = wire.offset.value();
  request.length = wire.length.value();
  return request;
}

bool told(const RequestRules& rules, std::uint16_t flag) noexcept {
  return (rules.transmission_flags & flag) != 0;
}

bool has_flag(const RequestHeader& request, std::uint16_t flag) noexcept {
  return (request.flags & flag) != 0;
}

bool is_known(Command command) noexcept { return command <= Command::block_status; }

bool changes_export(Command command) noexcept {
  return command == Command::write || command == Command::trim || command == Command::write_zeroes;
}

bool is_offered(Command command, const RequestRules& rules) noexcept {
  switch (command) {
    case Command::flush:
      return told(rules, transmission_flag::send_flush);
    case Command::trim:
      return told(rules, transmission_flag::send_trim);
    case Command::cache:
      return told(rules, transmission_flag::send_cache);
    case Command::write_zeroes:
      return told(rules, transmission_flag::send_write_zeroes);
    default:
      return true;
  }
}

std::uint16_t allowed_flags(Command command, const RequestRules& rules) noexcept {
  const bool extended = rules.header_style == HeaderStyle::extended;
  unsigned allowed = told(rules, transmission_flag::send_fua) ? command_flag::fua : 0U;
  switch (command) {
    case Command::read:
      if (told(rules, transmission_flag::send_df)) allowed |= command_flag::df;
      break;
    case Command::write:
      if (extended) allowed |= command_flag::payload_length;
      break;
    case Command::write_zeroes:
      allowed |= command_flag::no_hole;
      if (told(rules, transmission_flag::send_fast_zero)) allowed |= command_flag::fast_zero;
      break;
    case Command::block_status:
      allowed |= command_flag::req_one;
      if (extended && told(rules, transmission_flag::block_status_payload))
        allowed |= command_flag::payload_length;
      break;
    default:
      break;
  }
  return static_cast<std::uint16_t>(allowed);
}

std::uint64_t payload_length(const RequestHeader& request, HeaderStyle style) noexcept {
  const bool follows =
      request.command == Command::write ||
      (style == HeaderStyle::extended && has_flag(request, command_flag::payload_length));
  return follows ? request.length : 0;
}

std::uint64_t served_payload_length_max(const RequestRules& rules) noexcept {
  return served_payload_factor * rules.payload_length_max;
}

// A longer payload is not worth reading only to refuse it.
std::uint64_t consumed_payload_length_max(const RequestRules& rules) noexcept {
  const auto served = served_payload_length_max(rules);
  if (rules.header_style == HeaderStyle::extended)
    return std::max(served, default_payload_length_max);
  return std::max(served, rules.payload_length_max + excess_payload_length_max);
}

Refusal check_range(const RequestHeader& request, const RequestRules& rules) noexcept {
  // Not offset + length > size: the sum may wrap.
  const bool within =
      request.offset <= rules.export_size && request.length <= rules.export_size - request.offset;
  if (within) return {};
  if (request.command == Command::write || request.command == Command::write_zeroes)
    return {Error::no_space, "the range is beyond the end of the export"};
  return {Error::invalid, "the range is beyond the end of the export"};
}

Refusal check_payload_bounds(const RequestHeader& request, const RequestRules& rules) noexcept {
  const auto length_max = served_payload_length_max(rules);
  if (request.command == Command::write && request.length > length_max)
    return {Error::invalid, "the payload is longer than the maximum payload size"};
  if (request.command != Command::read) return {};
  if (has_flag(request, command_flag::df) && request.length > df_length_max)
    return {Error::overflow, "the length is too large for a reply in one piece"};
  if (request.length > length_max)
    return {Error::overflow, "the length is larger than the maximum payload size"};
  return {};
}

Refusal check_block_status(const RequestHeader& request, const RequestRules& rules) noexcept {
  if (rules.header_style == HeaderStyle::simple)
    return {Error::invalid, "block status needs structured replies"};
  if (!rules.block_status_selected) return {Error::invalid, "no metadata context is selected"};
  if (has_flag(request, command_flag::payload_length)) {
    const bool fits = request.length >= 8 && request.length % 4 == 0 &&
                      request.length <= block_status_payload_length_max;
    if (!fits) return {Error::invalid, "the payload of block status has an impossible length"};
    return {};  // the range is in the payload
  }
  if (request.length == 0) return {Error::invalid, "block status of nothing"};
  return check_range(request, rules);
}

Refusal check(const RequestHeader& request, const RequestRules& rules) noexcept {
  if (!is_known(request.command)) return {Error::invalid, "unknown command"};
  if ((request.flags & ~allowed_flags(request.command, rules)) != 0)
    return {Error::invalid, "a command flag is unknown or not allowed with this command"};
  if (changes_export(request.command) && told(rules, transmission_flag::read_only))
    return {Error::perm, "the export is read-only"};
  if (!is_offered(request.command, rules))
    return {Error::invalid, "the export does not offer this command"};
  // Offset and length of a FLUSH are reserved; clients that leave something in them do no harm.
  if (request.command == Command::flush) return {};
  if (request.command == Command::block_status) return check_block_status(request, rules);

  const auto refusal = check_range(request, rules);
  if (refusal.error != Error::none) return refusal;
  return check_payload_bounds(request, rules);
}

}  // namespace

std::optional<RequestHeader> decode_request(std::span<const std::byte> header,
                                            HeaderStyle style) noexcept {
  if (style == HeaderStyle::extended)
    return decode<WireExtendedRequest>(header, extended_request_magic);
  return decode<WireRequest>(header, request_magic);
}

Verdict validate(const RequestHeader& request, const RequestRules& rules) noexcept {
  Verdict verdict;
  if (request.command == Command::disconnect) return verdict;

  verdict.payload_length = payload_length(request, rules.header_style);
  if (verdict.payload_length > consumed_payload_length_max(rules)) {
    verdict.error = Error::invalid;
    verdict.reason = "the payload is absurdly long";
    verdict.disconnect = true;
    return verdict;
  }
  verdict.payload_flag_missing = request.command == Command::write &&
                                 rules.header_style == HeaderStyle::extended &&
                                 !has_flag(request, command_flag::payload_length);
  const auto refusal = check(request, rules);
  verdict.error = refusal.error;
  verdict.reason = refusal.reason;
  return verdict;
}

std::optional<BlockStatusPayload> parse_block_status_payload(std::span<const std::byte> payload,
                                                             const ContextIds& selected) noexcept {
  if (payload.size() > block_status_payload_length_max) return std::nullopt;
  ByteReader in(payload);
  BlockStatusPayload parsed;
  parsed.effect_length = in.u64();
  while (in.ok() && !in.at_end()) {
    const auto id = in.u32();
    if (!selected.contains(id) || !parsed.contexts.add(id)) return std::nullopt;
  }
  if (!in.at_end()) return std::nullopt;
  return parsed;
}

}  // namespace proto
