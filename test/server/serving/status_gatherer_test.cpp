#include "server/serving/status_gatherer.h"

#include <algorithm>
#include <catch2/catch.hpp>
#include <cerrno>
#include <chrono>
#include <future>
#include <vector>

#include "proto/constants.h"
#include "test/support/eventually.h"
#include "test/support/test_server.h"

using namespace std::chrono_literals;
using proto::Command;
using test::pattern;
using test::Style;
using test::TestServer;

namespace {

const server::CommandStatus& command_of(const server::ServerStatus& status, Command command) {
  const auto& all = status.exports.at(0).commands;
  return *std::ranges::find(all, command, &server::CommandStatus::command);
}

const server::ConnectionStatus& only_client_of(const server::ServerStatus& status) {
  const server::ConnectionStatus* found = nullptr;
  for (const auto& worker : status.workers)
    for (const auto& client : worker.clients) {
      REQUIRE(found == nullptr);
      found = &client;
    }
  REQUIRE(found != nullptr);
  return *found;
}

}  // namespace

TEST_CASE("requests are counted exactly, by command, over all workers") {
  const auto style = GENERATE(Style::simple, Style::structured, Style::extended);
  auto server = TestServer({.workers = 3});
  auto clients = std::vector<test::Client>{};
  for (auto index = 0U; index < 6; ++index) {
    clients.push_back(server.connect());
    clients.back().go(TestServer::export_name, style);
  }
  for (auto& client : clients) {
    for (auto index = 0U; index < 5; ++index) {
      REQUIRE(client.call(Command::write, index * 1000, 777, 0, pattern(777, index)).error == 0);
      REQUIRE(client.call(Command::read, 100, 3000).error == 0);
    }
    REQUIRE(client.call(Command::read, 0, 5U << 20).error == 0);  // in pieces
    REQUIRE(client.call(Command::flush, 0, 0).error == 0);
  }
  const auto status = server.status();
  const auto& write = command_of(status, Command::write);
  CHECK(write.answered == 30);
  CHECK(write.bytes == 30 * 777);
  const auto& read = command_of(status, Command::read);
  CHECK(read.answered == 36);
  CHECK(read.bytes == 30 * 3000 + 6 * (5U << 20));
  CHECK(command_of(status, Command::flush).answered == 6);
  CHECK(command_of(status, Command::trim).answered == 0);
  for (const auto& command : status.exports.at(0).commands) {
    CHECK(command.queue.count() == command.answered);
    CHECK(command.device.count() == command.answered);
    CHECK(command.in_flight == 0);
    CHECK(command.dropped == 0);
    CHECK(command.errors == decltype(command.errors){});
  }
  CHECK(status.exports.at(0).connections == 6);
  CHECK(status.exports.at(0).submit.count() > 0);
}

TEST_CASE("an error is counted by its kind, and its bytes are not") {
  auto server = TestServer();
  auto client = server.connect();
  client.go(TestServer::export_name);
  const auto beyond = server.workers().front()->bounds().memory_per_worker * 100;
  CHECK(client.call(Command::read, beyond, 512).error == 22);
  server.faults().fail_next(engine::Operation::read, EIO);
  CHECK(client.call(Command::read, 0, 512).error == 5);
  CHECK(client.call(static_cast<Command>(99), 0, 512).error == 22);
  const auto status = server.status();
  const auto& read = command_of(status, Command::read);
  CHECK(read.answered == 2);
  CHECK(read.bytes == 0);
  for (auto index = std::size_t{0}; index < server::error_kinds.size(); ++index) {
    const auto kind = server::error_kinds[index];
    const auto expected = kind == proto::Error::invalid || kind == proto::Error::io;
    CHECK(read.errors[index] == (expected ? 1 : 0));
  }
  CHECK(status.exports.at(0).commands.back().known == false);
  CHECK(status.exports.at(0).commands.back().answered == 1);
}

TEST_CASE("what the device still works on is in flight, and its time is the device's") {
  auto server = TestServer();
  auto client = server.connect();
  client.go(TestServer::export_name);
  server.faults().hold(engine::Faults::Hold::starts);
  client.request(Command::read, 1, 0, 512);
  client.request(Command::read, 2, 0, 512);
  REQUIRE(server.faults().wait_for_held(2));
  auto status = server.status();
  CHECK(command_of(status, Command::read).in_flight == 2);
  CHECK(only_client_of(status).requests_in_flight == 2);
  CHECK(only_client_of(status).memory > 0);
  const auto begin = std::chrono::steady_clock::now();
  while (std::chrono::steady_clock::now() - begin < 20ms) status = server.status();
  server.faults().release_all();
  CHECK(client.receive_reply(512).error == 0);
  CHECK(client.receive_reply(512).error == 0);
  status = server.status();
  const auto& read = command_of(status, Command::read);
  CHECK(read.in_flight == 0);
  CHECK(read.device.quantile(0) >= 20ms);
  CHECK(read.device.sum >= 40ms);
  CHECK(read.queue.sum < read.device.sum);
  CHECK(only_client_of(status).latency_sum >= 40ms);
}

TEST_CASE("a request that does not end is counted as slow until it does") {
  auto server = TestServer({.workers = 2, .slow_request = 20ms});
  auto client = server.connect_to_worker(0);
  auto other = server.connect_to_worker(1);
  for (auto* const each : {&client, &other}) each->go(TestServer::export_name);
  server.faults().hold(engine::Faults::Hold::completions);
  client.request(Command::read, 1, 0, 6U << 20);  // in pieces: one request
  other.request(Command::write, 2, 0, 512, 0, pattern(512, 1));
  const auto becomes = [&](std::uint64_t count) {
    return test::eventually([&] { return server.status().exports.at(0).requests_slow == count; });
  };
  CHECK(becomes(2));
  server.faults().release_all();
  CHECK(client.receive_reply(6U << 20).error == 0);
  CHECK(other.receive_reply(0).error == 0);
  CHECK(becomes(0));
}

TEST_CASE("requests that die with their connection are dropped, and no longer in flight") {
  auto server = TestServer();
  auto client = server.connect();
  client.go(TestServer::export_name);
  server.faults().hold(engine::Faults::Hold::starts);
  client.request(Command::read, 1, 0, 512);
  REQUIRE(server.faults().wait_for_held(1));
  client.send(test::Bytes(28));  // no request: the connection is abandoned
  CHECK(client.at_end());
  server.faults().release_all();
  server.wait_until_idle();
  const auto status = server.status();
  CHECK(command_of(status, Command::read).answered == 0);
  CHECK(command_of(status, Command::read).dropped == 1);
  CHECK(command_of(status, Command::read).in_flight == 0);
  CHECK(status.exports.at(0).connections == 0);
  CHECK(status.exports.at(0).connections_begun == 1);
  CHECK(status.workers.at(0).memory_in_use == 0);
}

TEST_CASE("a client's line says who it is and what it has moved") {
  auto server = TestServer({.read_only = true, .workers = 2});
  auto client = server.connect_to_worker(1);
  client.go(TestServer::export_name);
  CHECK(client.call(Command::read, 0, 4096).error == 0);
  const auto status = server.status();
  const auto& line = only_client_of(status);
  CHECK(line.peer == "a test");
  CHECK(line.export_name == TestServer::export_name);
  CHECK(line.worker == 1);
  CHECK(line.read_only);
  CHECK(line.requests == 1);
  CHECK(line.bytes_read == 4096);
  CHECK(line.bytes_written == 0);
}

TEST_CASE("a sync that failed shows, and so does each request refused for it") {
  auto server = TestServer();
  auto client = server.connect();
  client.go(TestServer::export_name);
  CHECK(server.status().exports.at(0).sync_error == 0);
  server.faults().fail_syncs(EIO);
  CHECK(client.call(Command::flush, 0, 0).error == 5);
  CHECK(client.call(Command::flush, 0, 0).error == 5);
  const auto status = server.status();
  CHECK(status.exports.at(0).sync_error == -EIO);
  CHECK(status.exports.at(0).sync_failures == 2);
}

TEST_CASE("a worker that does not answer in time is said not to, with its counters") {
  auto server = TestServer({.workers = 2});
  auto client = server.connect_to_worker(1);
  client.go(TestServer::export_name);
  CHECK(client.call(Command::read, 0, 512).error == 0);
  auto release = std::promise<void>();
  server::asio::post(server.workers().at(1)->io_context(),
                     [future = release.get_future().share()] { future.wait(); });
  const auto stuck = server.status(50ms);
  CHECK_FALSE(stuck.all_workers_respond());
  CHECK(stuck.workers.at(0).responding);
  CHECK_FALSE(stuck.workers.at(1).responding);
  CHECK(stuck.workers.at(1).clients.empty());
  CHECK(command_of(stuck, Command::read).answered == 1);
  release.set_value();
  CHECK(server.status().all_workers_respond());
}

TEST_CASE("a worker that hangs has one question waiting for it, however often it was asked") {
  auto server = TestServer();
  auto release = std::promise<void>();
  server::asio::post(server.workers().at(0)->io_context(),
                     [future = release.get_future().share()] { future.wait(); });
  for (auto index = 0; index < 5; ++index) CHECK_FALSE(server.status(1ms).all_workers_respond());
  release.set_value();
  TestServer::on(*server.workers().at(0), [] {});
  CHECK(server.take_late_answers() == 1);
  CHECK(server.status().all_workers_respond());
}

TEST_CASE("a worker is not asked at once again, and knows what happened since") {
  auto server = TestServer();
  auto client = server.connect();
  client.go(TestServer::export_name);
  const auto begin = server::Clock::now();
  for (auto count = std::uint64_t{1}; count <= 10; ++count) {
    REQUIRE(client.call(Command::read, 0, 512).error == 0);
    CHECK(only_client_of(server.status()).requests == count);
  }
  CHECK(server::Clock::now() - begin >= 9 * 20ms);
}
