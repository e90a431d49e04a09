#include "server/serving/receive_buffer.h"

#include <algorithm>
#include <catch2/catch.hpp>
#include <vector>

#include "test/support/test_client.h"

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

TEST_CASE("who fills the buffer gets a larger one, within bounds") {
  auto pool = engine::BufferPool(4 * engine::buffer_size_max);
  auto buffer = ReceiveBuffer();
  auto sizes = std::vector<std::size_t>();
  for (auto round = 0; round < 10; ++round) {
    REQUIRE(buffer.make_room(pool, 0));
    const auto size = buffer.room().size();
    sizes.push_back(size);
    buffer.received(round % 2 == 0 ? size - 1 : size);
    buffer.consume(buffer.unconsumed().size());
    buffer.release_if_possible();
  }
  CHECK(sizes[1] == sizes[0]);
  CHECK(sizes[2] == 2 * sizes[0]);
  CHECK(std::ranges::is_sorted(sizes));
  CHECK(sizes.back() == 256U << 10);
}

TEST_CASE("who sends nothing but long payloads gets little room, who mixes them much") {
  auto pool = engine::BufferPool(4 * engine::buffer_size_max);
  auto buffer = ReceiveBuffer();
  const auto room = [&] {
    REQUIRE(buffer.make_room(pool, 0));
    const auto size = buffer.room().size();
    buffer.release_if_possible();
    return size;
  };
  const auto much = room();
  for (auto round = 0; round < 100; ++round) {
    buffer.expect_payload(ReceiveBuffer::long_payload_min);
    buffer.expect_payload(ReceiveBuffer::long_payload_min - 1);
  }
  CHECK(room() == much);
  for (auto round = 0; round < 100; ++round) buffer.expect_payload(ReceiveBuffer::long_payload_min);
  CHECK(room() == engine::buffer_size_min);
  buffer.expect_payload(1);
  CHECK(room() == much);
}

TEST_CASE("without a free buffer there is no room") {
  auto pool = engine::BufferPool(engine::buffer_size_max);
  const auto all = pool.take(engine::buffer_size_max, engine::buffer_size_max, 0);
  auto buffer = ReceiveBuffer();
  CHECK_FALSE(buffer.make_room(pool, 0));
}
