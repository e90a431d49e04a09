#include "server/serving/fence.h"

#include <sys/socket.h>

#include <catch2/catch.hpp>
#include <vector>

#include "test/support/test_server.h"

using engine::Faults;
using proto::Command;
using test::Client;
using test::pattern;
using test::TestServer;

namespace {

// A client that attaches and asks for a block, and whose request reaches the device, where all
// requests are held.
bool newcomer_reaches_device(TestServer& server, Client& newcomer) {
  const auto held = server.faults().held_count();
  newcomer.go(TestServer::export_name);
  newcomer.request(Command::read, 1, 0, 512);
  return server.faults().wait_for_held(held + 1);
}

}  // namespace

TEST_CASE("READs of a client that is gone hold nobody up") {
  auto server = TestServer();
  server.faults().hold(Faults::Hold::starts);
  auto gone = server.connect();
  gone.go(TestServer::export_name);
  gone.request(Command::read, 1, 0, 4096);
  gone.request(Command::flush, 2, 0, 0);
  REQUIRE(server.faults().wait_for_held(2));
  gone.close();
  auto newcomer = server.connect();
  CHECK(newcomer_reaches_device(server, newcomer));
}

TEST_CASE("a client that may only read holds nobody up, whatever it leaves unread") {
  auto access = server::AccessRules{};
  access.read_only_for = {server::parse_client_pattern("192.0.2.1")};
  auto server = TestServer({.memory = 4U << 20, .access = access});
  auto reader = server.connect_from("192.0.2.1");
  reader.go(TestServer::export_name);
  for (auto cookie = 0U; cookie < 100; ++cookie) reader.request(Command::read, cookie, 0, 1U << 20);
  reader.request(Command::write, 100, 0, 512, 0, pattern(512, 1));
  ::shutdown(reader.fd(), SHUT_WR);
  auto newcomer = server.connect_from("192.0.2.2");
  newcomer.go(TestServer::export_name);
  CHECK(newcomer.call(Command::write, 0, 512, 0, pattern(512, 2)).error == 0);
  CHECK(reader.receive_reply(1U << 20).error == 0);
}

TEST_CASE("a half-closed client whose READs wait for memory is neither cut nor waited for") {
  auto server = TestServer({.memory = 4U << 20});
  auto slow = server.connect();
  slow.go(TestServer::export_name);
  constexpr auto count = 12U;
  for (auto cookie = 0U; cookie < count; ++cookie) slow.request(Command::read, cookie, 0, 2U << 20);
  ::shutdown(slow.fd(), SHUT_WR);
  for (auto attempt = 0; attempt < 3; ++attempt) {
    auto newcomer = server.connect();
    newcomer.go(TestServer::export_name);
    CHECK(newcomer.call(Command::write, 0, 512, 0, pattern(512, 2)).error == 0);
  }
  for (auto cookie = 0U; cookie < count; ++cookie) CHECK(slow.receive_reply(2U << 20).error == 0);
  CHECK(slow.at_end());
}

TEST_CASE("a write that a gone client has left behind READs is waited for") {
  auto server = TestServer({.workers = 2, .memory = 4U << 20});
  auto gone = server.connect_to_worker(0);
  gone.go(TestServer::export_name);
  // Its place before the newcomer is certain when it has had an answer.
  REQUIRE(gone.call(Command::read, 0, 512).error == 0);
  constexpr auto count = 12U;
  for (auto cookie = 0U; cookie < count; ++cookie) gone.request(Command::read, cookie, 0, 2U << 20);
  const auto old_data = pattern(512, 1);
  gone.request(Command::write, count, 0, old_data.size(), 0, old_data);
  ::shutdown(gone.fd(), SHUT_WR);
  auto newcomer = server.connect_to_worker(1);
  newcomer.go(TestServer::export_name);
  const auto new_data = pattern(512, 2);
  newcomer.request(Command::write, 1, 0, new_data.size(), 0, new_data);
  // Only its reading lets its own write come to pass.
  for (auto cookie = 0U; cookie < count; ++cookie) CHECK(gone.receive_reply(2U << 20).error == 0);
  CHECK(gone.receive_reply().error == 0);
  CHECK(newcomer.receive_reply().error == 0);
  CHECK((newcomer.call(Command::read, 0, new_data.size()).data == new_data));
}

TEST_CASE("clients that were idle and are gone at once hold nobody up") {
  auto server = TestServer({.connections_max = 1000});
  auto clients = std::vector<Client>{};
  for (auto index = 0; index < 300; ++index) {
    clients.push_back(server.connect());
    clients.back().go(TestServer::export_name);
    REQUIRE(clients.back().call(Command::read, 0, 512).error == 0);
  }
  for (auto& client : clients) client.close();
  auto newcomer = server.connect();
  newcomer.go(TestServer::export_name);
  CHECK(newcomer.call(Command::read, 0, 512).error == 0);
}
