#include "server/serving/handshake.h"

#include <catch2/catch.hpp>
#include <future>

#include "test/support/test_server.h"

using test::Bytes;
using test::Client;
using test::TestServer;

namespace {

constexpr std::size_t greeting_size = 18;  // bytes
constexpr std::uint32_t abort_option = 2;
constexpr std::uint32_t go_option = 7;
constexpr std::uint32_t ack = 1;
constexpr std::uint32_t unsupported = 0x80000001;
constexpr std::uint32_t unknown_export = 0x80000006;

}  // namespace

TEST_CASE("an abort is acknowledged before the connection is closed") {
  auto server = TestServer();
  auto client = server.connect();
  client.greet();
  client.send_option(abort_option, Bytes(100));
  CHECK(client.receive_option_reply() == ack);
  CHECK(client.at_end());
}

TEST_CASE("an unknown client flag closes the connection") {
  auto server = TestServer();
  auto client = server.connect();
  client.greet(1U << 20);
  CHECK(client.at_end());
}

TEST_CASE("the handshake goes on after options and exports that do not exist") {
  auto server = TestServer();
  auto client = server.connect();
  client.greet();
  client.send_option(4711, Bytes(200'000));
  CHECK(client.receive_option_reply() == unsupported);
  client.send_option(go_option, Client::go_payload("another disk"));
  CHECK(client.receive_option_reply() == unknown_export);
  client.send_option(go_option, Client::go_payload(""));
  auto type = client.receive_option_reply();
  while (type == 3) type = client.receive_option_reply();
  CHECK(type == ack);
}

TEST_CASE("a client that says nothing is closed at the deadline") {
  auto server = TestServer({.handshake_deadline = std::chrono::seconds(1)});
  auto client = server.connect();
  client.greet();
  CHECK(client.at_end());
  server.wait_until_idle();
}

TEST_CASE("a client that never gets to an export is closed after so many options") {
  auto server = TestServer();
  auto client = server.connect();
  client.greet();
  CHECK_THROWS([&] {
    for (auto count = 0U; count < 2 * server.bounds().options_max; ++count) {
      client.send_option(4711, {});
      client.receive_option_reply();
    }
  }());
}

TEST_CASE("of a crowd without an export that comes at once the youngest stay") {
  auto server = TestServer({.handshake_deadline = std::chrono::seconds(100)});
  // The worker finds them all at once when it is let go on.
  auto gate = std::promise<void>{};
  server::asio::post(server.workers().front()->io_context(),
                     [opened = gate.get_future().share()] { opened.wait(); });
  auto clients = std::vector<Client>{};
  const auto most = server.bounds().handshakes_max_per_worker;
  for (auto index = 0U; index < 3 * most; ++index) clients.push_back(server.connect());
  gate.set_value();
  for (auto index = 0U; index < 2 * most; ++index) {
    CAPTURE(index);
    clients[index].receive(greeting_size);
    CHECK(clients[index].at_end());
  }
  clients.back().greet();
  clients.back().send_option(abort_option, {});
  CHECK(clients.back().receive_option_reply() == ack);
}

TEST_CASE("of too many clients without an export the oldest is closed") {
  auto server = TestServer({.connections_max = 16});
  auto clients = std::vector<Client>{};
  const auto count = server.bounds().handshakes_max_per_worker;
  for (auto index = 0U; index < count + 1; ++index) {
    clients.push_back(server.connect());
    clients.back().greet();
  }
  CHECK(clients.front().at_end());
  clients.back().send_option(abort_option, {});
  CHECK(clients.back().receive_option_reply() == ack);
}
