#include "proto/client_negotiation.h"

#include <cassert>
#include <utility>

#include "proto/byte_reader.h"
#include "proto/byte_writer.h"
#include "proto/names.h"
#include "proto/text.h"
#include "proto/wire.h"

namespace proto {
namespace {

constexpr std::uint64_t oldstyle_magic = 0x00420281861253;  // "Oldstyle negotiation"
constexpr std::uint32_t error_bit = 1U << 31;               // "Option reply types"

}  // namespace

ClientNegotiation::ClientNegotiation(std::string export_name)
    : export_name_(std::move(export_name)) {
  expect(State::greeting, sizeof(WireGreeting));
}

void ClientNegotiation::expect(State state, std::size_t size) {
  state_ = state;
  piece_.clear();
  missing_ = size;
}

ClientNegotiation::Next ClientNegotiation::receive(std::span<const std::byte> input,
                                                   Output& output) {
  assert(input.size() <= missing_);
  piece_.insert(piece_.end(), input.begin(), input.end());
  missing_ -= input.size();
  // A reply without data is complete with its header.
  while (missing_ == 0 && state_ != State::transmission && state_ != State::failed)
    take_piece(output);
  if (state_ == State::transmission) return Next::transmit;
  return state_ == State::failed ? Next::failed : Next::receive;
}

void ClientNegotiation::take_piece(Output& output) {
  switch (state_) {
    case State::greeting:
      return take_greeting(output);
    case State::reply_header:
      return take_reply_header();
    case State::reply_data:
      return take_reply(output);
    default:
      return take_export_information();
  }
}

void ClientNegotiation::take_greeting(Output& output) {
  const auto greeting = load<WireGreeting>(piece_);
  if (greeting.greeting_magic.value() != greeting_magic)
    return fail("it is no NBD server: its greeting has a wrong magic number");
  if (greeting.option_magic.value() == oldstyle_magic)
    return fail("it speaks the oldstyle protocol, which is obsolete");
  if (greeting.option_magic.value() != option_magic)
    return fail("its greeting has a wrong option magic number");
  const auto offered = greeting.handshake_flags.value();
  if ((offered & handshake_flag::fixed_newstyle) == 0)
    return fail("it does not speak the fixed newstyle protocol");
  no_zeroes_ = (offered & handshake_flag::no_zeroes) != 0;
  WireClientFlags flags;
  flags.client_flags = std::uint32_t{handshake_flag::fixed_newstyle} |
                       (no_zeroes_ ? std::uint32_t{handshake_flag::no_zeroes} : 0U);
  ByteWriter(output).message(flags);
  ask(Option::go, output);
  expect(State::reply_header, sizeof(WireOptionReply));
}

void ClientNegotiation::ask(Option option, Output& output) {
  Output data;
  ByteWriter writer(data);
  if (option == Option::go) {
    writer.u32(static_cast<std::uint32_t>(export_name_.size()));
    writer.text(export_name_);
    writer.u16(1);
    writer.u16(static_cast<std::uint16_t>(Information::block_size));
  } else {
    writer.text(export_name_);
  }
  WireOption header;
  header.magic = option_magic;
  header.option = static_cast<std::uint32_t>(option);
  header.length = static_cast<std::uint32_t>(data.size());
  ByteWriter out(output);
  out.message(header);
  out.bytes(data);
}

void ClientNegotiation::take_reply_header() {
  const auto header = load<WireOptionReply>(piece_);
  if (header.magic.value() != option_reply_magic ||
      header.option.value() != static_cast<std::uint32_t>(Option::go))
    return fail("it answered with something that is no reply to GO");
  if (header.length.value() > reply_length_max) return fail("its reply to GO is too long");
  if (++reply_count_ > replies_max) return fail("it sends replies to GO without end");
  reply_type_ = header.type.value();
  expect(State::reply_data, header.length.value());
}

void ClientNegotiation::take_reply(Output& output) {
  const auto type = static_cast<OptionReply>(reply_type_);
  if ((reply_type_ & error_bit) != 0) return take_refusal(type, output);
  if (type == OptionReply::info) {
    take_information();
  } else if (type == OptionReply::ack) {
    return size_known_ ? begin_transmission()
                       : fail("it granted the export without saying how large it is");
  }
  // Other replies in front of the ACK are not for us.
  if (state_ == State::reply_data) expect(State::reply_header, sizeof(WireOptionReply));
}

void ClientNegotiation::take_information() {
  ByteReader in(piece_);
  const auto information = static_cast<Information>(in.u16());
  if (information == Information::export_info) {
    result_.size = in.u64();
    result_.transmission_flags = in.u16();
    size_known_ = true;
  } else if (information == Information::block_size) {
    result_.block_size_minimum = in.u32();
    result_.block_size_preferred = in.u32();
    result_.payload_length_max = in.u32();
  } else if (in.ok()) {
    return;  // not asked for, but allowed
  }
  if (!in.at_end()) fail("its information about the export is malformed");
}

void ClientNegotiation::take_refusal(OptionReply type, Output& output) {
  if (type == OptionReply::error_unsupported) {
    // It answers with the size, or closes the connection.
    ask(Option::export_name, output);
    const auto zeroes = no_zeroes_ ? 0 : reserved_zeroes;
    return expect(State::export_information,
                  sizeof(std::uint64_t) + sizeof(std::uint16_t) + zeroes);
  }
  if (type == OptionReply::error_tls_required)
    return fail("it requires TLS, which the kernel's client does not speak");
  const auto text = ByteReader(piece_).text(piece_.size());
  auto reason = "it refused the export " + quoted(export_name_) + " (" + std::string(name(type));
  if (!text.empty()) reason += ": " + quoted(text);
  fail(reason + ")");
}

void ClientNegotiation::take_export_information() {
  ByteReader in(piece_);
  result_.size = in.u64();
  result_.transmission_flags = in.u16();
  begin_transmission();
}

void ClientNegotiation::begin_transmission() { expect(State::transmission, 0); }

void ClientNegotiation::fail(std::string reason) {
  expect(State::failed, 0);
  reason_ = std::move(reason);
}

}  // namespace proto
