#include <atomic>
#include <catch2/catch.hpp>
#include <memory>
#include <vector>

#include "test_server.h"

using proto::Command;
using server::Departure;
using test::TestServer;

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
    worker.on_retired([&](const server::LooseQueue&) { gone = true; });
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
