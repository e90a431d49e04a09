#include "server/serving/worker.h"

#include <pthread.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <time.h>

#include <catch2/catch.hpp>
#include <chrono>
#include <thread>
#include <utility>

#include "test/support/eventually.h"
#include "test/support/test_server.h"

using proto::Command;
using test::Client;
using test::pattern;
using test::TestServer;

namespace {

struct ThreadUsage {
  long sleeps = 0;
  clockid_t clock = 0;  // how long it has had a processor
};

ThreadUsage usage_of(server::Worker& worker) {
  auto result = ThreadUsage{};
  TestServer::on(worker, [&] {
    auto usage = rusage{};
    ::getrusage(RUSAGE_THREAD, &usage);
    result.sleeps = usage.ru_nvcsw;
    ::pthread_getcpuclockid(::pthread_self(), &result.clock);
  });
  return result;
}

std::chrono::nanoseconds now(clockid_t clock) {
  auto time = timespec{};
  ::clock_gettime(clock, &time);
  return std::chrono::seconds(time.tv_sec) + std::chrono::nanoseconds(time.tv_nsec);
}

}  // namespace

TEST_CASE("a worker sleeps while its client is silent") {
  auto server = TestServer();
  auto client = server.connect();
  client.go(TestServer::export_name);
  auto& worker = *server.workers().front();
  // Not every time: a client on the same processor may have asked again before the worker goes on.
  const auto enough = usage_of(worker).sleeps + 20;
  CHECK(test::eventually([&] {
    REQUIRE(client.call(Command::read, 0, 512).error == 0);
    return usage_of(worker).sleeps >= enough;
  }));
}

TEST_CASE("a worker that polls keeps looking for requests while its client is silent") {
  auto server = TestServer({.busy_poll_us = 60'000'000});
  auto client = server.connect();
  client.go(TestServer::export_name);
  REQUIRE(client.call(Command::read, 0, 512).error == 0);
  const auto clock = usage_of(*server.workers().front()).clock;
  const auto enough = now(clock) + std::chrono::milliseconds(20);
  CHECK(test::eventually([&] { return now(clock) >= enough; }));
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

TEST_CASE("a pipelined write whose handshake comes after a later client's write never lands") {
  auto server = TestServer({.workers = 2});
  auto late = server.connect_to_worker(0);
  auto successor = server.connect_to_worker(1);
  successor.go(TestServer::export_name);
  const auto data = pattern(4096, 2);
  REQUIRE(successor.call(Command::write, 0, data.size(), 0, data).error == 0);
  // All of it has come, and its end, before it is looked at.
  TestServer::on(*server.workers().front(), [&] {
    late.send(test::Bytes{std::byte{0}, std::byte{0}, std::byte{0}, std::byte{3}});
    late.send_option(7, Client::go_payload(TestServer::export_name));
    late.request(Command::write, 1, 0, 4096, 0, pattern(4096, 1));
    late.close();
  });
  while (server.workers().front()->connection_count() > 0) std::this_thread::yield();
  CHECK((successor.call(Command::read, 0, data.size()).data == data));
}

TEST_CASE("a connection whose handshake is settled is served from its first byte on") {
  auto server = TestServer();
  int ends[2];
  REQUIRE(::socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, ends) == 0);
  auto negotiated = proto::Negotiated{};
  negotiated.export_description = server.target()->describe();
  server.workers().front()->serve(
      engine::FileDescriptor(ends[0]),
      server::begin_transmission({.name = "a test"}, std::move(negotiated)));
  CHECK(server.workers().front()->connection_count() == 1);
  auto client = test::Client(engine::FileDescriptor(ends[1]));
  const auto data = pattern(4096, 1);
  CHECK(client.call(Command::write, 512, data.size(), 0, data).error == 0);
  CHECK(client.call(Command::read, 512, data.size()).data == data);
  client.close();
  server.wait_until_idle();
}
