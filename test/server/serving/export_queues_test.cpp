#include "server/serving/export_queues.h"

#include <atomic>
#include <catch2/catch.hpp>
#include <memory>
#include <vector>

#include "server/serving/connection.h"
#include "test/support/eventually.h"
#include "test/support/test_server.h"

using proto::Command;
using server::Departure;
using test::eventually;
using test::pattern;
using test::TestServer;

namespace {

struct Flush final : engine::Io {
  Flush() { operation = engine::Operation::flush; }
  void complete(std::int64_t) noexcept override { completed = true; }

  std::atomic<bool> completed{false};
};

// Puts a table with one export of this name in the place of the worker's.
void exchange_table(TestServer& server, const std::string& name, Departure departure) {
  auto& worker = *server.workers().front();
  const auto made = server.make_export(name);
  const auto table = std::make_shared<const server::ExportTable>(std::vector{made});
  TestServer::on(worker, [&] {
    worker.retire(server.exports()->all(), departure);
    auto queues = std::vector<server::LooseQueue>{};
    queues.push_back(server::make_queue(made, server.bounds().queue_depth));
    worker.adopt(table, std::move(queues));
  });
}

}  // namespace

TEST_CASE("a connection goes on when its export has left the table, and new ones see the new") {
  auto server = TestServer();
  auto old = server.connect();
  old.go(TestServer::export_name);
  exchange_table(server, "new", Departure::keep);
  CHECK_THROWS(server.connect().go(TestServer::export_name));
  auto newcomer = server.connect();
  newcomer.go("new");
  const auto data = pattern(5000, 1);
  REQUIRE(old.call(Command::write, 100, data.size(), 0, data).error == 0);
  CHECK(newcomer.call(Command::read, 100, data.size()).data == data);
}

TEST_CASE("a client in its handshake chooses from the table of the moment") {
  auto server = TestServer();
  auto client = server.connect();
  client.greet();
  exchange_table(server, "new", Departure::keep);
  constexpr auto go_option = 7U;
  client.send_option(go_option, test::Client::go_payload(TestServer::export_name));
  CHECK(client.receive_option_reply() == 0x80000006);  // unknown export
  client.send_option(go_option, test::Client::go_payload("new"));
  CHECK(client.receive_option_reply() == 3);
}

TEST_CASE("a latecomer to a retired export is served unless its clients were sent away") {
  for (const auto departure : {Departure::keep, Departure::drain, Departure::now}) {
    CAPTURE(static_cast<int>(departure));
    auto server = TestServer();
    auto& worker = *server.workers().front();
    TestServer::on(worker, [&] { worker.retire(server.exports()->all(), departure); });
    auto client = server.connect();
    client.go(TestServer::export_name);
    if (departure == Departure::keep) {
      CHECK(client.call(Command::read, 0, 512).error == 0);
    } else {
      CHECK(client.at_end());
    }
  }
}

TEST_CASE("the queue of a retired export goes when the table and its clients have") {
  auto server = TestServer();
  auto gone = std::atomic<bool>{false};
  auto& worker = *server.workers().front();
  TestServer::on(worker, [&] {
    worker.on_released([&](const server::LooseQueue&) { gone = true; });
    worker.retire(server.exports()->all(), Departure::keep);
  });
  auto client = server.connect();
  client.go(TestServer::export_name);
  const auto empty =
      std::make_shared<const server::ExportTable>(std::vector<std::shared_ptr<server::Export>>{});
  TestServer::on(worker, [&] { worker.adopt(empty, {}); });
  CHECK(client.call(Command::read, 0, 512).error == 0);
  CHECK_FALSE(gone);
  client.close();
  server.wait_until_idle();
  TestServer::on(worker, [] {});  // the turn in which the client went is over
  TestServer::on(worker, [] {});
  CHECK(gone);
}

TEST_CASE("connections of a retired export are drained or dropped, as asked") {
  for (const auto departure : {Departure::drain, Departure::now}) {
    auto server = TestServer();
    auto client = server.connect();
    client.go(TestServer::export_name);
    exchange_table(server, "new", departure);
    CHECK(client.at_end());
    client.close();  // the server would wait a second for it
    server.wait_until_idle();
  }
}

TEST_CASE("what is submitted while an export is held is done when it is let go") {
  auto server = TestServer();
  auto& worker = *server.workers().front();
  const auto& target = *server.exports()->all().front();
  auto flush = Flush();
  auto in_flight = std::size_t{1};
  TestServer::on(worker, [&] {
    worker.hold(target);
    worker.submit(worker.queue_of(target), flush);
  });
  TestServer::on(worker, [&] { in_flight = worker.queue_of(target).in_flight(); });
  CHECK(in_flight == 0);
  CHECK_FALSE(flush.completed);
  TestServer::on(worker, [&] { worker.resume(target); });
  REQUIRE(eventually([&] { return flush.completed.load(); }));
}

TEST_CASE("a held export begins no request of its connections") {
  auto server = TestServer();
  auto& worker = *server.workers().front();
  const auto& target = *server.exports()->all().front();
  auto client = server.connect();
  client.go(TestServer::export_name);
  REQUIRE(client.call(Command::read, 0, 512).error == 0);
  TestServer::on(worker, [&] { worker.hold(target); });
  client.request(Command::read, 1, 0, 512);
  // The turn that this one follows has seen the request.
  server.connect().go(TestServer::export_name);
  auto answered = std::uint64_t{0};
  TestServer::on(worker, [&] { answered = worker.connections().front()->status().requests; });
  CHECK(answered == 1);
  TestServer::on(worker, [&] { worker.resume(target); });
  CHECK(client.result(1, Command::read, 0, 512).error == 0);
}
