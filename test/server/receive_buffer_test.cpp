#include "server/receive_buffer.h"

#include <catch2/catch.hpp>

#include "test_client.h"

using server::ReceiveBuffer;
using test::Bytes;
using test::pattern;

namespace {

Bytes taken(const ReceiveBuffer& buffer) {
  return {buffer.unconsumed().begin(), buffer.unconsumed().end()};
}

void receive(ReceiveBuffer& buffer, engine::BufferPool& pool, const Bytes& bytes) {
  REQUIRE(buffer.make_room(pool, 0));
  REQUIRE(buffer.room().size() >= bytes.size());
  std::copy(bytes.begin(), bytes.end(), buffer.room().begin());
  buffer.received(bytes.size());
}

}  // namespace

TEST_CASE("the beginning of a header is kept without a buffer") {
  auto pool = engine::BufferPool(engine::buffer_size_max);
  auto buffer = ReceiveBuffer();
  const auto bytes = pattern(100, 1);
  receive(buffer, pool, bytes);
  buffer.release_if_possible();
  CHECK(pool.in_use() > 0);  // too much to put aside
  buffer.consume(80);
  buffer.release_if_possible();
  CHECK(pool.in_use() == 0);
  CHECK(taken(buffer) == Bytes(bytes.begin() + 80, bytes.end()));
  buffer.consume(5);
  receive(buffer, pool, bytes);
  auto expected = Bytes(bytes.begin() + 85, bytes.end());
  expected.insert(expected.end(), bytes.begin(), bytes.end());
  CHECK(taken(buffer) == expected);
}

TEST_CASE("there is room again after everything has been consumed") {
  auto pool = engine::BufferPool(engine::buffer_size_max);
  auto buffer = ReceiveBuffer();
  for (auto round = 0; round < 100; ++round) {
    receive(buffer, pool, pattern(3000, 1));
    buffer.consume(3000);
  }
  CHECK(taken(buffer).empty());
}

TEST_CASE("without a free buffer there is no room") {
  auto pool = engine::BufferPool(engine::buffer_size_max);
  const auto all = pool.take(engine::buffer_size_max, engine::buffer_size_max, 0);
  auto buffer = ReceiveBuffer();
  CHECK_FALSE(buffer.make_room(pool, 0));
}
