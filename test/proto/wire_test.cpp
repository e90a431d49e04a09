#include "proto/wire.h"

#include <catch2/catch.hpp>

#include "test/support/bytes.h"

using test::from_hex;
using test::to_hex;

TEST_CASE("a message loaded from bytes and stored again gives the same bytes") {
  const auto bytes = from_hex("49484156454f5054 00000007 00000010");
  const auto option = proto::load<proto::WireOption>(bytes);
  CHECK(option.magic.value() == 0x49484156454f5054);
  CHECK(option.option.value() == 7);
  CHECK(option.length.value() == 16);

  test::Bytes out(bytes.size() + 1, std::byte{0xee});
  CHECK(proto::store(out, option) == bytes.size());
  CHECK(to_hex(out) == to_hex(bytes) + "ee");
}
