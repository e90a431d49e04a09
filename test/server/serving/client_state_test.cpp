#include "server/serving/client_state.h"

#include <sys/socket.h>

#include <catch2/catch.hpp>
#include <cerrno>
#include <optional>
#include <span>
#include <utility>

#include "server/serving/connection.h"
#include "test/support/eventually.h"
#include "test/support/test_server.h"

using proto::Command;
using test::Bytes;
using test::Client;
using test::pattern;
using test::Style;
using test::TestServer;

namespace {

std::optional<server::ClientState> state_of(TestServer& server) {
  auto& worker = *server.workers().front();
  auto state = std::optional<server::ClientState>();
  TestServer::on(worker, [&] { state = worker.connections().front()->state(); });
  return state;
}

// As soon as `done` says so.
template <typename Done>
server::ClientState state_when(TestServer& server, const Done& done) {
  auto state = std::optional<server::ClientState>();
  REQUIRE(test::eventually([&] {
    state = state_of(server);
    return state && done(*state);
  }));
  return *state;
}

// Another client, who goes on from a state.
Client resume(TestServer& server, server::ClientState state) {
  int ends[2];
  REQUIRE(::socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, ends) == 0);
  server.workers().front()->serve(engine::FileDescriptor(ends[0]), std::move(state));
  return Client(engine::FileDescriptor(ends[1]));
}

}  // namespace

TEST_CASE("the state of a client says who it is, what was negotiated and where the stream is") {
  auto server = TestServer();
  auto client = server.connect();
  client.go(TestServer::export_name, Style::structured, true);
  REQUIRE(client.call(Command::write, 0, 4096, 0, pattern(4096, 1)).error == 0);
  REQUIRE(client.call(Command::read, 0, 512).error == 0);
  auto header = Client::encode_request(Style::structured, Command::read, 7, 0, 512, 0);
  header.resize(20);
  client.send(header);
  const auto state = state_when(server, [](const auto& it) { return it.unread.size() == 20; });
  CHECK(state.client.name == "a test");
  CHECK(state.negotiated.export_description.name == TestServer::export_name);
  CHECK(state.negotiated.export_description.size == client.size());
  CHECK(state.negotiated.export_description.transmission_flags == client.transmission_flags());
  CHECK(state.negotiated.header_style == proto::HeaderStyle::structured);
  CHECK(state.unread == header);
  CHECK(state.discard_left == 0);
  CHECK_FALSE(state.admitted_at);
  CHECK(state.unsent.empty());
  CHECK(state.totals.requests == 2);
  CHECK(state.totals.bytes_written == 4096);
  CHECK(state.totals.bytes_read == 512);
}

TEST_CASE("the state of a client has the rest of a refused payload and a charged request") {
  auto server = TestServer();
  auto client = server.connect();
  client.go(TestServer::export_name);
  client.request(Command::write, 1, 0, 1000, 1U << 15, Bytes(100));
  CHECK(client.receive_reply().error == EINVAL);
  CHECK(state_when(server, [](const auto& it) { return it.discard_left == 900; }).unread.empty());
  client.send(Bytes(900));
  server.target()->limiter().set({.read_bytes = 1, .burst_seconds = 0}, {});
  REQUIRE(client.call(Command::read, 0, 4096).error == 0);
  client.request(Command::read, 2, 0, 512);
  const auto state = state_when(server, [](const auto& it) { return it.admitted_at.has_value(); });
  CHECK(*state.admitted_at > server::Clock::now());
  CHECK(state.unread.size() == 28);
}

TEST_CASE("replies that the client does not read are in its state") {
  auto server = TestServer();
  auto client = server.connect();
  client.go(TestServer::export_name);
  client.request(Command::read, 1, 0, 1U << 20);
  const auto state = state_when(server, [](const auto& it) { return !it.unsent.empty(); });
  CHECK(state.totals.requests == 0);
  const auto received = client.receive(16 + (1U << 20));
  CHECK(std::equal(state.unsent.begin(), state.unsent.end(),
                   received.end() - static_cast<std::ptrdiff_t>(state.unsent.size())));
  CHECK(state_when(server, [](const auto& it) { return it.unsent.empty(); }).totals.requests == 1);
}

TEST_CASE("there is no state while something is in flight") {
  auto server = TestServer();
  auto client = server.connect();
  client.go(TestServer::export_name);
  server.faults().hold(engine::Faults::Hold::starts);
  client.request(Command::read, 1, 0, 512);
  REQUIRE(server.faults().wait_for_held(1));
  CHECK_FALSE(state_of(server));
  server.faults().release_all();
  CHECK(client.receive_reply(512).error == 0);
}

TEST_CASE("a connection goes on from the state of another one, inside a header") {
  auto server = TestServer();
  auto client = server.connect();
  client.go(TestServer::export_name);
  REQUIRE(client.call(Command::write, 0, 512, 0, pattern(512, 1)).error == 0);
  const auto header = Client::encode_request(Style::simple, Command::read, 7, 0, 512, 0);
  client.send(std::span(header).first(20));
  const auto before = state_when(server, [](const auto& it) { return it.unread.size() == 20; });
  client.close();
  server.wait_until_idle();
  auto other = resume(server, before);
  other.send(std::span(header).subspan(20));
  CHECK(other.receive_reply(512).payload == pattern(512, 1));
  const auto after = state_when(server, [](const auto& it) { return it.totals.requests == 2; });
  CHECK(after.totals.bytes_written == 512);
  CHECK(after.arrival == before.arrival);
  CHECK(after.since == before.since);
  CHECK(after.client.name == before.client.name);
}

TEST_CASE("a connection goes on from the state of another one, inside a refused payload") {
  auto server = TestServer();
  auto client = server.connect();
  client.go(TestServer::export_name);
  client.request(Command::write, 1, 0, 1000, 1U << 15, Bytes(100));
  CHECK(client.receive_reply().error == EINVAL);
  auto state = state_when(server, [](const auto& it) { return it.discard_left == 900; });
  const auto admitted_at = server::Clock::now() + std::chrono::hours(1);
  state.admitted_at = admitted_at;
  client.close();
  server.wait_until_idle();
  server.target()->limiter().set({.read_bytes = 1U << 20, .burst_seconds = 1}, {});
  auto other = resume(server, state);
  CHECK(state_when(server, [](const auto&) { return true; }).admitted_at == admitted_at);
  other.send(Bytes(900));
  other.request(Command::read, 2, 0, 512);
  state_when(server, [](const auto& it) { return it.unread.size() == 28; });
  server.target()->limiter().set({}, {});
  auto& worker = *server.workers().front();
  TestServer::on(worker, [&] { worker.connections().front()->limits_changed(); });
  CHECK(other.receive_reply(512).error == 0);
}

TEST_CASE("a state is refused whose export is not there, or whose place as a writer is taken") {
  auto server = TestServer({.writers_max = 1});
  auto client = server.connect_from("a");
  client.go(TestServer::export_name);
  auto state = state_when(server, [](const auto&) { return true; });
  state.client.host = "b";
  CHECK(resume(server, state).at_end());
  state.client.host = "a";
  state.negotiated.export_description.name = "another";
  CHECK(resume(server, state).at_end());
  CHECK(client.call(Command::read, 0, 512).error == 0);
}
