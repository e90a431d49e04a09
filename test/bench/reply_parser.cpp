#include "test/bench/reply_parser.h"

#include <algorithm>
#include <cstring>

#include <fmt/format.h>
#include <boost/endian/conversion.hpp>

#include "proto/constants.h"

namespace bench {
namespace {

// magic, then error (simple) or flags and type (structured), then the cookie: the first 16 bytes of
// either kind.
constexpr std::size_t common_header_size = 16;
constexpr std::size_t hole_payload_size = 12;

template <typename Number>
Number load(const std::byte* from) {
  Number number;
  std::memcpy(&number, from, sizeof number);
  return boost::endian::big_to_native(number);
}

}  // namespace

void ReplyParser::parse(std::span<const std::byte> bytes) {
  while (!bytes.empty()) step(bytes);
}

void ReplyParser::skip(std::uint32_t length) {
  position_ += length;
  remaining_ -= length;
  if (remaining_ == 0) end_chunk();
}

const std::byte* ReplyParser::take(std::span<const std::byte>& bytes, std::size_t length) {
  if (partial_length_ == 0 && bytes.size() >= length) {
    const std::byte* piece = bytes.data();
    bytes = bytes.subspan(length);
    return piece;
  }
  const std::size_t taken = std::min(length - partial_length_, bytes.size());
  std::memcpy(&partial_[partial_length_], bytes.data(), taken);
  bytes = bytes.subspan(taken);
  partial_length_ += taken;
  if (partial_length_ < length) return nullptr;
  partial_length_ = 0;
  return partial_.data();
}

void ReplyParser::step(std::span<const std::byte>& bytes) {
  switch (state_) {
    case State::header:
      if (const auto* header = take(bytes, common_header_size)) begin_reply(header);
      return;
    case State::chunk_length:
      if (const auto* length = take(bytes, sizeof(std::uint32_t)))
        begin_chunk(load<std::uint32_t>(length));
      return;
    case State::content_offset:
      if (const auto* offset = take(bytes, sizeof(std::uint64_t)))
        begin_content(load<std::uint64_t>(offset));
      return;
    case State::content: {
      const auto length =
          static_cast<std::uint32_t>(std::min<std::size_t>(remaining_, bytes.size()));
      sink_.content(cookie_, position_, bytes.first(length));
      bytes = bytes.subspan(length);
      skip(length);
      return;
    }
    case State::hole:
      if (const auto* payload = take(bytes, hole_payload_size)) take_hole(payload);
      return;
    case State::error:
      if (const auto* error = take(bytes, sizeof(std::uint32_t))) {
        sink_.failed(cookie_, load<std::uint32_t>(error));
        remaining_ -= static_cast<std::uint32_t>(sizeof(std::uint32_t));
        state_ = State::error_rest;
        if (remaining_ == 0) end_chunk();
      }
      return;
    case State::error_rest: {
      const auto length =
          static_cast<std::uint32_t>(std::min<std::size_t>(remaining_, bytes.size()));
      bytes = bytes.subspan(length);
      skip(length);
      return;
    }
  }
}

void ReplyParser::begin_reply(const std::byte* header) {
  const auto magic = load<std::uint32_t>(header);
  cookie_ = load<std::uint64_t>(header + 8);
  if (magic == proto::structured_reply_magic && structured_) {
    done_ = (load<std::uint16_t>(header + 4) & proto::reply_flag_done) != 0;
    chunk_type_ = load<std::uint16_t>(header + 6);
    state_ = State::chunk_length;
    return;
  }
  if (magic != proto::simple_reply_magic) {
    throw ProtocolError(fmt::format("a reply begins with the wrong magic {:#x}", magic));
  }
  done_ = true;
  position_ = 0;
  remaining_ = sink_.read_length(cookie_);
  if (structured_ && remaining_ > 0) throw ProtocolError("a read was answered by a simple reply");
  if (const auto error = load<std::uint32_t>(header + 4); error != 0) {
    sink_.failed(cookie_, error);
    remaining_ = 0;
  }
  state_ = State::content;
  if (remaining_ == 0) end_chunk();
}

void ReplyParser::begin_chunk(std::uint32_t length) {
  remaining_ = length;
  switch (static_cast<proto::ReplyType>(chunk_type_)) {
    case proto::ReplyType::none:
      if (length != 0 || !done_)
        throw ProtocolError("a chunk of type NONE has a payload or is not the last");
      end_chunk();
      return;
    case proto::ReplyType::offset_data:
      if (length <= sizeof(std::uint64_t)) throw ProtocolError("a data chunk is too short");
      remaining_ = length - static_cast<std::uint32_t>(sizeof(std::uint64_t));
      state_ = State::content_offset;
      return;
    case proto::ReplyType::offset_hole:
      if (length != hole_payload_size) throw ProtocolError("a hole chunk has a wrong length");
      state_ = State::hole;
      return;
    case proto::ReplyType::error:
    case proto::ReplyType::error_offset:
      if (length < sizeof(std::uint32_t)) throw ProtocolError("an error chunk is too short");
      state_ = State::error;
      return;
    case proto::ReplyType::block_status:
    case proto::ReplyType::block_status_ext:
      break;
  }
  throw ProtocolError(fmt::format("a chunk has the unexpected type {}", chunk_type_));
}

std::uint32_t ReplyParser::position_of(std::uint64_t offset, std::uint64_t length) {
  const std::uint64_t begin = sink_.read_offset(cookie_);
  const std::uint64_t asked = sink_.read_length(cookie_);
  if (offset < begin || offset - begin > asked || length > asked - (offset - begin)) {
    throw ProtocolError("a chunk lies outside of the range that was asked for");
  }
  return static_cast<std::uint32_t>(offset - begin);
}

void ReplyParser::begin_content(std::uint64_t offset) {
  position_ = position_of(offset, remaining_);
  state_ = State::content;
}

void ReplyParser::take_hole(const std::byte* payload) {
  const auto length = load<std::uint32_t>(payload + 8);
  sink_.hole(cookie_, position_of(load<std::uint64_t>(payload), length), length);
  end_chunk();
}

void ReplyParser::end_chunk() {
  state_ = State::header;
  if (done_) sink_.completed(cookie_);
}

}  // namespace bench
