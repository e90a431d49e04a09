// When a request may begin: limits, and exports that are held.
#include <catch2/catch.hpp>
#include <memory>
#include <vector>

#include "test/support/test_server.h"

using proto::Command;
using server::Departure;
using test::Client;
using test::pattern;
using test::TestServer;

namespace {

constexpr auto one_write_a_second = server::RateLimits{.write_iops = 1, .burst_seconds = 0};
constexpr auto memory_min = 4U << 20;  // bytes: the least a worker can have

const auto block = pattern(4096, 1);

// Sends WRITEs of one block, and waits for the reply to the first of them.
void write_blocks(Client& client, unsigned count) {
  auto requests = test::Bytes{};
  for (auto cookie = 0U; cookie < count; ++cookie) {
    const auto header = Client::encode_request(test::Style::simple, Command::write, cookie,
                                               cookie * block.size(), block.size(), 0);
    requests.insert(requests.end(), header.begin(), header.end());
    requests.insert(requests.end(), block.begin(), block.end());
  }
  client.send(requests);
  CHECK(client.receive_reply().cookie == 0);
}

}  // namespace

TEST_CASE("clients that wait for their limits leave the memory to others") {
  auto server = TestServer({.memory = memory_min, .connections_max = 1000});
  server.target()->limiter().set({}, one_write_a_second);
  auto waiting = std::vector<Client>{};
  for (auto index = 0; index < 100; ++index) {
    auto& client = waiting.emplace_back(server.connect_from("10.0.0." + std::to_string(index)));
    client.go(TestServer::export_name);
    write_blocks(client, 16);
  }
  auto in_use = std::size_t{0};
  TestServer::on(*server.workers().front(), [] {});
  TestServer::on(*server.workers().front(),
                 [&] { in_use = server.workers().front()->buffers().in_use(); });
  CHECK(in_use < memory_min / 4);
  auto reader = server.connect_from("10.0.1.1");
  reader.go(TestServer::export_name);
  for (auto count = 0; count < 100; ++count)
    REQUIRE(reader.call(Command::read, 0, 1U << 20).error == 0);
}

TEST_CASE("a refused request takes nothing from anybody's limits") {
  auto server = TestServer({.size = 1U << 20});
  const auto limits = server::RateLimits{
      .read_iops = 1, .write_iops = 1, .read_bytes = 1, .write_bytes = 1, .burst_seconds = 0};
  server.target()->limiter().set(limits, limits);
  auto client = server.connect();
  client.go(TestServer::export_name);
  for (const auto command : {Command::read, Command::trim, Command::write_zeroes, Command::cache})
    CHECK(client.call(command, 1U << 20, 0xffffffff).error != 0);
  CHECK(client.call(Command::read, 0, 512, 1U << 15).error != 0);
  const auto now = server::Clock::now();
  auto& all = server.target()->limiter().for_all();
  CHECK(all.take_read(0, now) <= now);
  CHECK(all.take_write(0, now) <= now);
}

TEST_CASE("a connection that waits for its limit is gone as soon as it is ended") {
  auto server = TestServer();
  auto& worker = *server.workers().front();
  server.target()->limiter().set({.read_bytes = 1, .burst_seconds = 0}, {});
  auto client = server.connect();
  client.go(TestServer::export_name);
  REQUIRE(client.call(Command::read, 0, 4096).error == 0);
  client.request(Command::read, 1, 0, 4096);
  auto connection = std::weak_ptr<server::Connection>();
  TestServer::on(worker, [&] { connection = worker.connections().front(); });
  TestServer::on(worker,
                 [&] { worker.end_connections([](const auto&) { return true; }, Departure::now); });
  CHECK(client.at_end());
  server.wait_until_idle();
  TestServer::on(worker, [] {});  // the turn in which it went is over
  TestServer::on(worker, [] {});
  CHECK(connection.expired());
}

TEST_CASE("a connection that is told to end does not wait for its limits any more") {
  auto server = TestServer();
  auto& worker = *server.workers().front();
  server.target()->limiter().set({.read_bytes = 1, .burst_seconds = 0}, {});
  auto client = server.connect();
  client.go(TestServer::export_name);
  REQUIRE(client.call(Command::read, 0, 4096).error == 0);
  client.request(Command::read, 1, 0, 512);
  server.connect().go(TestServer::export_name);  // the turn that this one follows has seen it
  TestServer::on(
      worker, [&] { worker.end_connections([](const auto&) { return true; }, Departure::drain); });
  CHECK(client.receive_reply(512).error == 0);
  CHECK(client.at_end());
}

TEST_CASE("limits that are set while payloads arrive cut nothing short") {
  auto server = TestServer();
  auto client = server.connect();
  client.go(TestServer::export_name);
  const auto data = pattern(300'000, 3);
  for (auto count = 0U; count < 40; ++count) {
    const auto limits =
        count % 2 == 0 ? server::RateLimits{.write_iops = 10'000} : server::RateLimits{};
    server.target()->limiter().set(limits, {});
    client.request(Command::write, count, count * 1000, data.size(), 0, data);
  }
  for (auto count = 0U; count < 40; ++count) CHECK(client.receive_reply().error == 0);
  CHECK(client.call(Command::read, 39'000, data.size()).data == data);
}

TEST_CASE("who waits for a dead client's writes goes on waiting when the export is let go") {
  auto server = TestServer();
  auto& worker = *server.workers().front();
  server.faults().hold(engine::Faults::Hold::starts);
  auto dead = server.connect();
  dead.go(TestServer::export_name);
  dead.request(Command::write, 1, 0, block.size(), 0, block);
  REQUIRE(server.faults().wait_for_held(1));
  dead.close();
  auto successor = server.connect();
  successor.go(TestServer::export_name);
  const auto newer = pattern(block.size(), 2);
  successor.request(Command::write, 2, 0, newer.size(), 0, newer);
  const auto& target = *server.target();
  TestServer::on(worker, [&] { worker.hold(target); });
  TestServer::on(worker, [&] { worker.resume(target); });
  for (auto round = 0; round < 10; ++round) server.connect().greet();
  CHECK(server.faults().held_count() == 1);  // nothing of the successor's
  server.faults().release_all();
  CHECK(successor.receive_reply().error == 0);
  CHECK(successor.call(Command::read, 0, newer.size()).data == newer);
}

TEST_CASE("a WRITE that waits for its limits without its payload ends with its connection") {
  auto server = TestServer();
  auto& worker = *server.workers().front();
  server.target()->limiter().set({}, one_write_a_second);
  auto client = server.connect();
  client.go(TestServer::export_name);
  write_blocks(client, 1);
  auto bytes = Client::encode_request(test::Style::simple, Command::write, 9, 0, block.size(), 0);
  bytes.resize(bytes.size() + 100);
  client.send(bytes);
  server.connect().go(TestServer::export_name);  // the turn that this one follows has seen it
  TestServer::on(
      worker, [&] { worker.end_connections([](const auto&) { return true; }, Departure::drain); });
  const auto reply = client.receive_reply();
  CHECK(reply.cookie == 9);
  CHECK(reply.error == 108);  // ESHUTDOWN
  CHECK(client.at_end());
}

TEST_CASE("a client that is gone while it waits for limits does not keep others waiting") {
  auto server = TestServer();
  auto& limiter = server.target()->limiter();
  limiter.set({.read_bytes = 1, .burst_seconds = 0}, {});
  auto first = server.connect();
  first.go(TestServer::export_name);
  REQUIRE(first.call(Command::read, 0, 600).error == 0);
  auto gone = server.connect();
  gone.go(TestServer::export_name);
  gone.request(Command::read, 1, 0, 1U << 20);
  // Charged by the time that the next request on this worker is answered.
  REQUIRE(first.call(Command::flush, 0, 0).error == 0);
  gone.close();
  first.close();
  server.wait_until_idle();
  const auto now = server::Clock::now();
  CHECK(limiter.for_all().take_read(0, now) <= now + std::chrono::seconds(600));
}
