#include "server/serving/client_directory.h"

#include <sys/socket.h>

#include <catch2/catch.hpp>

#include "proto/constants.h"
#include "test/support/eventually.h"
#include "test/support/test_server.h"

using proto::Command;
using server::AccessRules;
using server::parse_client_pattern;
using test::Bytes;
using test::Client;
using test::pattern;
using test::TestServer;

namespace {

constexpr std::uint32_t list_option = 3;
constexpr std::uint32_t info_option = 6;
constexpr std::uint32_t go_option = 7;
constexpr std::uint32_t ack = 1;
constexpr std::uint32_t unknown_export = 0x80000006;
constexpr std::uint32_t perm = 1;

constexpr auto* holder = "192.0.2.1";
constexpr auto* other = "192.0.2.2";

bool read_only(const Client& client) {
  return (client.transmission_flags() & proto::transmission_flag::read_only) != 0;
}

Client attached(TestServer& server, const std::string& host) {
  auto client = server.connect_from(host);
  client.go(TestServer::export_name);
  return client;
}

// Tries until the lease is there: it is given back when the server has noticed that the holder has
// gone.
void check_that_others_get_to_write(TestServer& server) {
  CHECK(test::eventually([&] {
    auto client = attached(server, other);
    if (read_only(client)) return false;
    CHECK(client.call(Command::write, 0, 512, 0, pattern(512, 1)).error == 0);
    return true;
  }));
}

}  // namespace

TEST_CASE("an export that takes another's place counts its writers, whatever bound that had") {
  for (const auto before : {0U, 1U, 2U}) {
    CAPTURE(before);
    auto server = TestServer({.writers_max = before});
    const auto client = attached(server, holder);
    auto config = server.target()->config();
    config.writers_max = 1;
    auto successor = server::Export(config, server.target()->device(), server.bounds());
    successor.share_with(*server.target());
    CHECK_FALSE(successor.may_take_writer(other));
    CHECK(successor.may_take_writer(holder));
  }
}

TEST_CASE("an export that a client may not use is neither listed nor known to it") {
  auto rules = AccessRules{};
  rules.allow = {parse_client_pattern("192.0.2.1")};
  auto server = TestServer({.access = rules});
  auto stranger = server.connect_from(other);
  stranger.greet();
  stranger.send_option(list_option, {});
  CHECK(stranger.receive_option_reply() == ack);  // and no name before it
  for (const auto* const name : {TestServer::export_name, ""})
    for (const auto option : {info_option, go_option}) {
      stranger.send_option(option, Client::go_payload(name));
      CHECK(stranger.receive_option_reply() == unknown_export);
    }
  auto friendly = attached(server, holder);
  CHECK(friendly.call(Command::read, 0, 512).error == 0);
}

TEST_CASE("who may only read is told so, and is refused when it writes all the same") {
  auto rules = AccessRules{};
  rules.read_only_for = {parse_client_pattern("192.0.2.2")};
  auto server = TestServer({.access = rules});
  auto reader = attached(server, other);
  CHECK(read_only(reader));
  CHECK(reader.call(Command::write, 0, 512, 0, pattern(512, 1)).error == perm);
  CHECK(reader.call(Command::trim, 0, 512).error == perm);
  CHECK(reader.call(Command::write_zeroes, 0, 512).error == perm);
  CHECK(reader.call(Command::read, 0, 512).data == Bytes(512));
  auto writer = attached(server, holder);
  CHECK_FALSE(read_only(writer));
}

TEST_CASE("one address writes with all its connections, and others read meanwhile") {
  auto server = TestServer({.workers = 3, .writers_max = 1});
  auto writers = std::vector<Client>{};
  for (auto count = 0; count < 4; ++count) {
    writers.push_back(attached(server, holder));
    CHECK_FALSE(read_only(writers.back()));
  }
  auto reader = attached(server, other);
  CHECK(read_only(reader));
  CHECK(writers.front().call(Command::write, 0, 512, 0, pattern(512, 7)).error == 0);
  CHECK(reader.call(Command::read, 0, 512).data == pattern(512, 7));
  CHECK(reader.call(Command::write, 0, 512, 0, pattern(512, 8)).error == perm);
  // All but one of them go: the address keeps the lease.
  writers.erase(writers.begin() + 1, writers.end());
  CHECK(read_only(attached(server, other)));
  writers.clear();
  check_that_others_get_to_write(server);
  reader.close();
  server.wait_until_idle();
}

TEST_CASE("asking about an export takes no lease") {
  auto server = TestServer({.writers_max = 1});
  auto curious = server.connect_from(other);
  curious.greet();
  curious.send_option(info_option, Client::go_payload(""));
  auto type = curious.receive_option_reply();
  while (type == 3) type = curious.receive_option_reply();
  REQUIRE(type == ack);
  CHECK_FALSE(read_only(attached(server, holder)));
}

TEST_CASE("a lease ends with its holder, whichever way that goes") {
  auto server = TestServer({.size = 64U << 20, .workers = 2, .writers_max = 1});
  const auto end = GENERATE("close", "disconnect", "half-close", "in the middle of a payload",
                            "unread replies", "a wrong magic");
  CAPTURE(end);
  auto client = attached(server, holder);
  const auto way = std::string(end);
  if (way == "disconnect") client.request(Command::disconnect, 1, 0, 0);
  if (way == "half-close") ::shutdown(client.fd(), SHUT_WR);
  if (way == "in the middle of a payload")
    client.send(Client::encode_request(test::Style::simple, Command::write, 1, 0, 1U << 20, 0));
  if (way == "unread replies")
    for (auto cookie = 0U; cookie < 32; ++cookie)
      client.request(Command::read, cookie, 0, 1U << 20);
  if (way == "a wrong magic") client.send(Bytes(28, std::byte{1}));
  if (way == "close" || way == "in the middle of a payload" || way == "unread replies")
    client.close();
  check_that_others_get_to_write(server);
}

TEST_CASE("a writer that follows a dead one waits for what that has under way") {
  auto server = TestServer({.workers = 2, .writers_max = 1});
  auto before = attached(server, holder);
  server.faults().hold(engine::Faults::Hold::starts);
  before.request(Command::write, 1, 0, 512, 0, pattern(512, 1));
  REQUIRE(server.faults().wait_for_held(1));
  before.close();
  auto after = server.connect_from(other);
  // Its requests are taken once the old write is through; whatever it writes then is newer.
  for (;;) {
    after.go(TestServer::export_name);
    if (!read_only(after)) break;
    after = server.connect_from(other);
  }
  after.request(Command::write, 2, 0, 512, 0, pattern(512, 2));
  server.faults().release_all();
  CHECK(after.receive_reply().error == 0);
  CHECK(after.call(Command::read, 0, 512).data == pattern(512, 2));
}
