#include "proto/byte_writer.h"

#include <catch2/catch.hpp>

#include "proto/wire.h"
#include "test/support/bytes.h"

using test::Bytes;
using test::to_hex;

TEST_CASE("the writer appends in network byte order") {
  Bytes out = {std::byte{0xaa}};
  proto::ByteWriter writer(out);
  writer.u16(0x0102);
  writer.u32(0x03040506);
  writer.u64(0x0708090a0b0c0d0e);
  writer.text("hi");
  writer.zeroes(3);
  CHECK(to_hex(out) == "aa0102030405060708090a0b0c0d0e6869000000");
}

TEST_CASE("the writer appends a message as it is on the wire") {
  Bytes out;
  proto::WireHole hole;
  hole.offset = 0x1122334455667788;
  hole.length = 0x99aabbcc;
  proto::ByteWriter(out).message(hole);
  CHECK(to_hex(out) == "112233445566778899aabbcc");
}
