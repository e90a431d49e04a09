#include "proto/reply.h"

#include <array>
#include <catch2/catch.hpp>
#include <string>
#include <string_view>
#include <vector>

#include "test/support/bytes.h"

using proto::Error;
using proto::HeaderStyle;
using proto::ReplyTo;
using proto::StatusExtent;
using test::Bytes;
using test::from_hex;
using test::to_hex;

namespace {

constexpr ReplyTo structured = {HeaderStyle::structured, 0x1122334455667788, 0x99aabbccddeeff00};
constexpr ReplyTo extended = {HeaderStyle::extended, 0x1122334455667788, 0x99aabbccddeeff00};

// The bytes that `encode` writes to a buffer of the promised size, as hexadecimal text; checks that
// it writes only what it says.
template <typename Encode>
std::string encoded(Encode encode) {
  Bytes out(proto::reply_header_size_max, std::byte{0xee});
  const auto size = encode(std::span(out));
  REQUIRE(size <= out.size());
  for (std::size_t i = size; i < out.size(); ++i) CHECK(out[i] == std::byte{0xee});
  return to_hex(std::span(out).first(size));
}

std::string blankless(std::string_view hex) { return to_hex(from_hex(hex)); }

}  // namespace

TEST_CASE("a simple reply carries error and cookie") {
  CHECK(encoded([](auto out) {
          return proto::encode_simple_reply(out, 0x1122334455667788, Error::none);
        }) == blankless("67446698 00000000 1122334455667788"));
  CHECK(encoded([](auto out) {
          return proto::encode_simple_reply(out, 0xffffffffffffffff, Error::shutdown);
        }) == blankless("67446698 0000006c ffffffffffffffff"));
}

TEST_CASE("a none chunk is always the last") {
  CHECK(encoded([](auto out) { return proto::encode_none_chunk(out, structured); }) ==
        blankless("668e33ef 0001 0000 1122334455667788 00000000"));
  CHECK(encoded([](auto out) { return proto::encode_none_chunk(out, extended); }) ==
        blankless("6e8a278c 0001 0000 1122334455667788 99aabbccddeeff00 0000000000000000"));
}

TEST_CASE("a data chunk counts its offset into the length") {
  CHECK(encoded([](auto out) {
          return proto::encode_data_chunk(out, structured, 0x0102030405060708, 0x1000, false);
        }) == blankless("668e33ef 0000 0001 1122334455667788 00001008 0102030405060708"));
  CHECK(encoded([](auto out) {
          return proto::encode_data_chunk(out, extended, 0x0102030405060708, 0x1000, true);
        }) == blankless("6e8a278c 0001 0001 1122334455667788 99aabbccddeeff00 0000000000001008"
                        "0102030405060708"));
}

TEST_CASE("the length of a data chunk does not wrap in extended headers") {
  CHECK(encoded([](auto out) {
          return proto::encode_data_chunk(out, extended, 0, 0xffffffff, true);
        }) == blankless("6e8a278c 0001 0001 1122334455667788 99aabbccddeeff00 0000000100000007"
                        "0000000000000000"));
}

TEST_CASE("a hole chunk is complete") {
  CHECK(encoded([](auto out) {
          return proto::encode_hole_chunk(out, structured, 0x0102030405060708, 0xa0b0c0d0, true);
        }) == blankless("668e33ef 0001 0002 1122334455667788 0000000c 0102030405060708 a0b0c0d0"));
  CHECK(encoded([](auto out) {
          return proto::encode_hole_chunk(out, extended, 0x0102030405060708, 0xa0b0c0d0, false);
        }) == blankless("6e8a278c 0000 0002 1122334455667788 99aabbccddeeff00 000000000000000c"
                        "0102030405060708 a0b0c0d0"));
}

TEST_CASE("an error chunk is the last one and counts its text into the length") {
  CHECK(encoded([](auto out) {
          return proto::encode_error_chunk(out, structured, Error::no_space, 0);
        }) == blankless("668e33ef 0001 8001 1122334455667788 00000006 0000001c 0000"));
  CHECK(encoded([](auto out) {
          return proto::encode_error_chunk(out, extended, Error::overflow, 4096);
        }) == blankless("6e8a278c 0001 8001 1122334455667788 99aabbccddeeff00 0000000000001006"
                        "0000004b 1000"));
}

TEST_CASE("a block status chunk announces its extents") {
  CHECK(encoded([](auto out) {
          return proto::encode_block_status_chunk(out, structured, 1, 3, true);
        }) == blankless("668e33ef 0001 0005 1122334455667788 0000001c 00000001"));
  CHECK(encoded([](auto out) {
          return proto::encode_block_status_chunk(out, extended, 1, 3, false);
        }) == blankless("6e8a278c 0000 0006 1122334455667788 99aabbccddeeff00 0000000000000038"
                        "00000001 00000003"));
}

TEST_CASE("the longest block status chunk has the length the specification allows") {
  CHECK(encoded([](auto out) {
          return proto::encode_block_status_chunk(out, structured, 1,
                                                  proto::status_extent_count_max, true);
        }) == blankless("668e33ef 0001 0005 1122334455667788 00800004 00000001"));
}

TEST_CASE("extents are 8 bytes in compact, 16 bytes in extended replies") {
  const std::array<StatusExtent, 2> extents = {StatusExtent{0x11223344, 3}, StatusExtent{512, 0}};
  for (const auto style : {HeaderStyle::structured, HeaderStyle::extended}) {
    Bytes out(extents.size() * proto::encoded_extent_size(style));
    proto::encode_extents(out, style, extents);
    CHECK(to_hex(out) == (style == HeaderStyle::extended
                              ? blankless("0000000011223344 0000000000000003"
                                          "0000000000000200 0000000000000000")
                              : blankless("11223344 00000003 00000200 00000000")));
  }
  const std::array<StatusExtent, 1> huge = {StatusExtent{0x123456789abcdef0, 1}};
  Bytes out(16);
  proto::encode_extents(out, HeaderStyle::extended, huge);
  CHECK(to_hex(out) == "123456789abcdef00000000000000001");
}
