#include "proto/request.h"

#include <catch2/catch.hpp>
#include <string_view>

#include "test/support/bytes.h"

using proto::Command;
using proto::decode_request;
using proto::HeaderStyle;
using test::Builder;
using test::Bytes;
using test::from_hex;

namespace {

constexpr std::string_view compact =
    "25609513 0001 0001 1122334455667788 0000000102030405 00a0b0c0";
constexpr std::string_view extended =
    "21e41c71 0020 0007 ffeeddccbbaa9988 8000000000000001 0000001000a0b0c0";

}  // namespace

TEST_CASE("a compact request header is decoded field by field") {
  for (const auto style : {HeaderStyle::simple, HeaderStyle::structured}) {
    const auto request = decode_request(from_hex(compact), style);
    REQUIRE(request);
    CHECK(request->flags == proto::command_flag::fua);
    CHECK(request->command == Command::write);
    CHECK(request->cookie == 0x1122334455667788);
    CHECK(request->offset == 0x0000000102030405);
    CHECK(request->length == 0x00a0b0c0);
  }
}

TEST_CASE("an extended request header is decoded field by field") {
  const auto request = decode_request(from_hex(extended), HeaderStyle::extended);
  REQUIRE(request);
  CHECK(request->flags == proto::command_flag::payload_length);
  CHECK(request->command == Command::block_status);
  CHECK(request->cookie == 0xffeeddccbbaa9988);
  CHECK(request->offset == 0x8000000000000001);
  CHECK(request->length == 0x1000a0b0c0);
}

TEST_CASE("a request header of any other size is refused") {
  for (const auto style : {HeaderStyle::simple, HeaderStyle::structured, HeaderStyle::extended}) {
    auto header = from_hex(style == HeaderStyle::extended ? extended : compact);
    CHECK(decode_request(header, style));
    for (std::size_t length = 0; length < header.size(); ++length) {
      CAPTURE(length);
      CHECK_FALSE(decode_request(std::span(header).first(length), style));
    }
    header.push_back(std::byte{0});
    CHECK_FALSE(decode_request(header, style));
  }
}

TEST_CASE("a request with a wrong magic is refused, whichever bit is wrong") {
  for (const auto style : {HeaderStyle::structured, HeaderStyle::extended}) {
    const auto header = from_hex(style == HeaderStyle::extended ? extended : compact);
    for (std::size_t bit = 0; bit < 32; ++bit) {
      CAPTURE(bit);
      auto wrong = header;
      wrong[bit / 8] ^= static_cast<std::byte>(1U << bit % 8);
      CHECK_FALSE(decode_request(wrong, style));
    }
  }
}

TEST_CASE("a header of the style that was not negotiated is refused") {
  auto longer = from_hex(compact);
  longer.resize(proto::extended_request_size);
  CHECK_FALSE(decode_request(longer, HeaderStyle::extended));
  const auto shorter = from_hex(extended);
  CHECK_FALSE(decode_request(std::span(shorter).first(28), HeaderStyle::structured));
}

TEST_CASE("commands and flags that nobody knows are decoded as they are") {
  const auto header = Builder().u32(0x25609513).u16(0xffff).u16(0xabcd).u64(0).u64(0).u32(0).get();
  const auto request = decode_request(header, HeaderStyle::simple);
  REQUIRE(request);
  CHECK(request->flags == 0xffff);
  CHECK(static_cast<unsigned>(request->command) == 0xabcd);
}

TEST_CASE("the header size follows the style") {
  CHECK(proto::request_size(HeaderStyle::simple) == 28);
  CHECK(proto::request_size(HeaderStyle::structured) == 28);
  CHECK(proto::request_size(HeaderStyle::extended) == 32);
}

namespace {

proto::ContextIds ids_of(std::initializer_list<std::uint32_t> ids) {
  auto set = proto::ContextIds();
  for (const auto id : ids) set.add(id);
  return set;
}

const auto allocation_alone = ids_of({1});

}  // namespace

TEST_CASE("a block status payload is an effect length and the ids of known contexts") {
  const auto both = from_hex("0000001000000200 00000001");
  const auto selected = proto::parse_block_status_payload(both, allocation_alone);
  REQUIRE(selected);
  CHECK(selected->effect_length == 0x1000000200);
  CHECK(selected->contexts == allocation_alone);

  const auto none = proto::parse_block_status_payload(std::span(both).first(8), allocation_alone);
  REQUIRE(none);
  CHECK(none->effect_length == 0x1000000200);
  CHECK(none->contexts.empty());
}

TEST_CASE("a block status payload is refused at every length but the right ones") {
  const Bytes payload = from_hex("0000000000000200 00000001");
  for (std::size_t length = 0; length <= payload.size(); ++length) {
    CAPTURE(length);
    const auto parsed =
        proto::parse_block_status_payload(std::span(payload).first(length), allocation_alone);
    CHECK(parsed.has_value() == (length == 8 || length == 12));
  }
}

TEST_CASE("a block status payload with an unknown or repeated context id is refused") {
  for (const auto* ids : {"00000000", "00000002", "01000000", "0000000100000001",
                          "0000000100000002", "0000000200000001"}) {
    CAPTURE(ids);
    CHECK_FALSE(proto::parse_block_status_payload(Builder().u64(512).bytes(from_hex(ids)).get(),
                                                  allocation_alone));
  }
  CHECK_FALSE(proto::parse_block_status_payload(Bytes(1U << 20), allocation_alone));
}

TEST_CASE("a block status payload may ask for some of several selected contexts") {
  const auto selected = ids_of({1, 7, 9});
  const auto payload = Builder().u64(512).u32(9).u32(1).get();
  const auto parsed = proto::parse_block_status_payload(payload, selected);
  REQUIRE(parsed);
  CHECK(parsed->contexts == ids_of({9, 1}));
  CHECK_FALSE(proto::parse_block_status_payload(payload, ids_of({1, 7})));
}

TEST_CASE("a set of context ids has each once, and as many as it has room for") {
  auto set = proto::ContextIds();
  CHECK(set.empty());
  for (auto id = 1U; id <= proto::meta_contexts_max; ++id) {
    CHECK(set.add(id));
    CHECK_FALSE(set.add(id));
    CHECK(set.contains(id));
    CHECK(set.size() == id);
  }
  CHECK_FALSE(set.add(100));
  CHECK_FALSE(set.contains(100));
}
