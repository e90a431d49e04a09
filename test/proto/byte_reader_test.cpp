#include "proto/byte_reader.h"

#include <catch2/catch.hpp>

#include "test/support/bytes.h"

using proto::ByteReader;
using test::from_hex;

TEST_CASE("numbers are read in network byte order, front to back") {
  const auto bytes = from_hex("0102 03040506 0708090a0b0c0d0e 6869");
  ByteReader in(bytes);
  CHECK(in.u16() == 0x0102);
  CHECK(in.u32() == 0x03040506);
  CHECK(in.u64() == 0x0708090a0b0c0d0e);
  CHECK_FALSE(in.at_end());
  CHECK(in.text(2) == "hi");
  CHECK(in.at_end());
}

TEST_CASE("a read past the end yields zero, and the reader has failed for good") {
  const auto bytes = from_hex("0102 03");
  ByteReader in(bytes);
  CHECK(in.u16() == 0x0102);
  CHECK(in.ok());
  CHECK(in.u16() == 0);
  CHECK_FALSE(in.ok());
  CHECK(in.text(1).empty());  // the byte is there, but nobody knows what it means
  CHECK_FALSE(in.at_end());
}

TEST_CASE("a text longer than the rest fails, whatever its announced length") {
  const auto bytes = from_hex("616263");
  for (const std::size_t length : {std::size_t{4}, std::size_t{0xffffffff}, ~std::size_t{0}}) {
    CAPTURE(length);
    ByteReader in(bytes);
    CHECK(in.text(length).empty());
    CHECK_FALSE(in.ok());
  }
}

TEST_CASE("an empty text is no failure, even at the end") {
  ByteReader in({});
  CHECK(in.text(0).empty());
  CHECK(in.at_end());
}
