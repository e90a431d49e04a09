#include "server/worker.h"

#include <sys/resource.h>
#include <sys/socket.h>

#include <catch2/catch.hpp>
#include <utility>

#include "test_server.h"

using proto::Command;
using test::pattern;
using test::TestServer;

namespace {

// How often the worker's thread has gone to sleep.
long sleeps(server::Worker& worker) {
  auto usage = rusage{};
  TestServer::on(worker, [&] { ::getrusage(RUSAGE_THREAD, &usage); });
  return usage.ru_nvcsw;
}

}  // namespace

TEST_CASE(
    "a worker that polls does not sleep between the requests of a client that waits for each") {
  for (const auto busy_poll_us : {0U, 5'000'000U}) {
    CAPTURE(busy_poll_us);
    auto server = TestServer({.busy_poll_us = busy_poll_us});
    auto client = server.connect();
    client.go(TestServer::export_name);
    auto& worker = *server.workers().front();
    const auto before = sleeps(worker);
    constexpr auto request_count = 100;
    for (auto count = 0; count < request_count; ++count)
      REQUIRE(client.call(Command::read, 0, 512).error == 0);
    if (busy_poll_us == 0) {
      CHECK(sleeps(worker) > before);
    } else {
      // It may have met another thread at a lock, on a busy machine.
      CHECK(sleeps(worker) < before + request_count / 10);
    }
  }
}

TEST_CASE("connections of several workers see each other's writes") {
  auto server = TestServer({.block_size = 4096, .workers = 3});
  auto clients = std::vector<test::Client>{};
  for (auto index = 0U; index < 6; ++index) {
    clients.push_back(server.connect());
    clients.back().go(TestServer::export_name);
  }
  for (auto index = 0U; index < 60; ++index) {
    const auto data = pattern(700, index);
    REQUIRE(clients[index % 6].call(Command::write, index * 700, data.size(), 0, data).error == 0);
    REQUIRE(clients[(index + 1) % 6].call(Command::read, index * 700, data.size()).data == data);
  }
}

TEST_CASE("the connections of a worker are counted until they have gone") {
  auto server = TestServer();
  CHECK(server.workers().front()->connection_count() == 0);
  auto client = server.connect();
  CHECK(server.workers().front()->connection_count() == 1);
  client.go(TestServer::export_name);
  client.close();
  server.wait_until_idle();
}

TEST_CASE("a draining worker takes no new connections") {
  auto server = TestServer();
  server.workers().front()->drain();
  auto client = server.connect();
  CHECK(client.at_end());
  server.wait_until_idle();
}

TEST_CASE("a client in its handshake is closed when the worker drains") {
  auto server = TestServer();
  auto client = server.connect();
  client.greet();
  server.workers().front()->drain();
  CHECK(client.at_end());
  server.wait_until_idle();
}

TEST_CASE("a connection whose handshake is settled is served from its first byte on") {
  auto server = TestServer();
  int ends[2];
  REQUIRE(::socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, ends) == 0);
  auto handshake = server::Handshake{};
  handshake.target = server.target();
  handshake.negotiated.export_description = server.target()->describe();
  server.workers().front()->serve(server::UniqueFd(ends[0]),
                                  server::ClientIdentity{.name = "a test"}, std::move(handshake));
  CHECK(server.workers().front()->connection_count() == 1);
  auto client = test::Client(server::UniqueFd(ends[1]));
  const auto data = pattern(4096, 1);
  CHECK(client.call(Command::write, 512, data.size(), 0, data).error == 0);
  CHECK(client.call(Command::read, 512, data.size()).data == data);
  client.close();
  server.wait_until_idle();
}
