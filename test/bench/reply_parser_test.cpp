#include "test/bench/reply_parser.h"

#include <map>
#include <vector>

#include <boost/endian/conversion.hpp>
#include <catch2/catch.hpp>

#include "proto/constants.h"

using bench::ProtocolError;
using bench::ReplyParser;

namespace {

class Stream {
 public:
  template <typename Number>
  Stream& number(Number value) {
    const Number big = boost::endian::native_to_big(value);
    const auto part = std::as_bytes(std::span(&big, 1));
    bytes.insert(bytes.end(), part.begin(), part.end());
    return *this;
  }
  Stream& text(std::string_view value) {
    const auto part = std::as_bytes(std::span(value));
    bytes.insert(bytes.end(), part.begin(), part.end());
    return *this;
  }
  Stream& simple(std::uint64_t cookie, std::uint32_t error) {
    return number(proto::simple_reply_magic).number(error).number(cookie);
  }
  Stream& chunk(std::uint64_t cookie, proto::ReplyType type, bool done, std::uint32_t length) {
    const std::uint16_t flags = done ? proto::reply_flag_done : std::uint16_t{0};
    return number(proto::structured_reply_magic)
        .number(flags)
        .number(static_cast<std::uint16_t>(type))
        .number(cookie)
        .number(length);
  }
  std::vector<std::byte> bytes;
};

// Reads of 8 bytes at 1000 have the cookies below 10, other commands the rest.
struct Recorder final : bench::ReplySink {
  std::uint32_t read_length(std::uint64_t cookie) override { return cookie < 10 ? 8 : 0; }
  std::uint64_t read_offset(std::uint64_t) override { return 1000; }
  void content(std::uint64_t cookie, std::uint32_t position,
               std::span<const std::byte> bytes) override {
    auto& found = contents[cookie];
    found.resize(8, '.');
    for (const std::byte byte : bytes) found.at(position++) = static_cast<char>(byte);
  }
  void hole(std::uint64_t cookie, std::uint32_t position, std::uint32_t length) override {
    auto& found = contents[cookie];
    found.resize(8, '.');
    found.replace(position, length, length, '0');
  }
  void failed(std::uint64_t cookie, std::uint32_t error) override { errors[cookie] = error; }
  void completed(std::uint64_t cookie) override { order.push_back(cookie); }

  std::map<std::uint64_t, std::string> contents;
  std::map<std::uint64_t, std::uint32_t> errors;
  std::vector<std::uint64_t> order;
};

Recorder parsed(const std::vector<std::byte>& bytes, bool structured, std::size_t step) {
  Recorder recorder;
  ReplyParser parser(recorder, structured);
  for (std::size_t i = 0; i < bytes.size(); i += step) {
    parser.parse(std::span(bytes).subspan(i, std::min(step, bytes.size() - i)));
  }
  return recorder;
}

}  // namespace

TEST_CASE("simple replies are understood however the stream is cut") {
  Stream stream;
  stream.simple(3, 0)
      .text("abcdefgh")
      .simple(20, 0)
      .simple(4, 5)
      .simple(21, 28)
      .simple(5, 0)
      .text("ABCDEFGH");
  for (std::size_t step = 1; step <= stream.bytes.size(); ++step) {
    CAPTURE(step);
    const auto recorder = parsed(stream.bytes, false, step);
    CHECK(recorder.order == std::vector<std::uint64_t>{3, 20, 4, 21, 5});
    CHECK(recorder.contents.at(3) == "abcdefgh");
    CHECK(recorder.contents.at(5) == "ABCDEFGH");
    CHECK(recorder.errors == std::map<std::uint64_t, std::uint32_t>{{4, 5}, {21, 28}});
  }
}

TEST_CASE("chunks of several replies may come in turns, however the stream is cut") {
  using enum proto::ReplyType;
  Stream stream;
  stream.chunk(1, offset_data, false, 12).number(std::uint64_t{1004}).text("wxyz");
  stream.chunk(2, error_offset, false, 19)
      .number(std::uint32_t{5})
      .number(std::uint16_t{5})
      .text("worse");
  stream.number(std::uint64_t{1000});
  stream.chunk(1, offset_hole, true, 12).number(std::uint64_t{1000}).number(std::uint32_t{4});
  stream.simple(30, 0);
  stream.chunk(2, none, true, 0);
  stream.chunk(3, error, true, 6).number(std::uint32_t{22}).number(std::uint16_t{0});
  for (std::size_t step = 1; step <= stream.bytes.size(); ++step) {
    CAPTURE(step);
    const auto recorder = parsed(stream.bytes, true, step);
    CHECK(recorder.order == std::vector<std::uint64_t>{1, 30, 2, 3});
    CHECK(recorder.contents.at(1) == "0000wxyz");
    CHECK(recorder.errors == std::map<std::uint64_t, std::uint32_t>{{2, 5}, {3, 22}});
  }
}

TEST_CASE("content can be skipped unseen") {
  Stream head;
  head.simple(3, 0).text("ab");
  Recorder recorder;
  ReplyParser parser(recorder, false);
  CHECK(parser.content_remaining() == 0);
  parser.parse(head.bytes);
  CHECK(parser.content_remaining() == 6);
  parser.skip(4);
  CHECK(recorder.order.empty());
  parser.skip(2);
  CHECK(recorder.order == std::vector<std::uint64_t>{3});
  CHECK(parser.content_remaining() == 0);
}

TEST_CASE("a server that breaks the protocol is found out") {
  using enum proto::ReplyType;
  struct Case {
    const char* what;
    bool structured;
    Stream stream;
  };
  const Case cases[] = {
      {"wrong magic", false, Stream().number(0x12345678U).number(0U).number(std::uint64_t{1})},
      {"a chunk without negotiation", false, Stream().chunk(1, none, true, 0)},
      {"a simple reply to a read", true, Stream().simple(1, 0)},
      {"data before the range", true,
       Stream().chunk(1, offset_data, true, 9).number(std::uint64_t{999})},
      {"data behind the range", true,
       Stream().chunk(1, offset_data, true, 16).number(std::uint64_t{1001})},
      {"a hole behind the range", true,
       Stream()
           .chunk(1, offset_hole, true, 12)
           .number(std::uint64_t{1004})
           .number(std::uint32_t{5})},
      {"a hole that wraps", true,
       Stream()
           .chunk(1, offset_hole, true, 12)
           .number(std::uint64_t{1004})
           .number(std::uint32_t{0xffffffff})},
      {"NONE that is not the last", true, Stream().chunk(1, none, false, 0)},
      {"NONE with a payload", true, Stream().chunk(1, none, true, 1)},
      {"data without data", true, Stream().chunk(1, offset_data, true, 8)},
      {"an error without an error", true, Stream().chunk(1, error, true, 3)},
      {"block status nobody asked for", true, Stream().chunk(1, block_status, true, 12)},
  };
  for (const auto& [what, structured, stream] : cases) {
    CAPTURE(what);
    CHECK_THROWS_AS(parsed(stream.bytes, structured, stream.bytes.size()), ProtocolError);
  }
}
