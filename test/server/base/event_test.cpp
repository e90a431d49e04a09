#include "server/base/event.h"

#include <catch2/catch.hpp>

namespace {

server::Awaitable<void> count_up(server::Event& event, int& count) {
  co_await event.wait();
  ++count;
}

server::Awaitable<void> count_all(server::Event& event, int& count) {
  for (;;) co_await count_up(event, count);
}

}  // namespace

TEST_CASE("a signal wakes all that wait for the event") {
  auto io_context = server::asio::io_context(1);
  auto event = server::Event(io_context);
  auto count = 0;
  for (auto waiting = 0; waiting < 3; ++waiting)
    server::asio::co_spawn(io_context, count_up(event, count), server::asio::detached);
  io_context.poll();
  CHECK(count == 0);
  event.signal();
  io_context.poll();
  CHECK(count == 3);
}

TEST_CASE("a signal is not kept for a wait that begins later") {
  auto io_context = server::asio::io_context(1);
  auto event = server::Event(io_context);
  auto count = 0;
  event.signal();
  server::asio::co_spawn(io_context, count_all(event, count), server::asio::detached);
  io_context.poll();
  CHECK(count == 0);
  for (auto expected = 1; expected <= 3; ++expected) {
    event.signal();
    io_context.poll();
    CHECK(count == expected);
  }
}
