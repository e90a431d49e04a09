// A server in this process as those see it who change its exports: the test's thread is the
// accepting one.
#pragma once

#include <boost/asio/use_future.hpp>
#include <chrono>
#include <future>
#include <stdexcept>
#include <utility>

#include "server/live/live_server.h"
#include "server/serving/connection.h"
#include "test/support/eventually.h"
#include "test/support/test_server.h"

namespace test {

struct LiveFixture {
  explicit LiveFixture(const TestServerOptions& options = {}) : server(options) {}

  // Begins a change; finish() waits for it.
  template <typename Result>
  std::future<Result> begin(server::Awaitable<Result> change) {
    auto result = server::asio::co_spawn(io_context, std::move(change), server::asio::use_future);
    io_context.restart();
    io_context.poll();
    return result;
  }
  template <typename Result>
  Result finish(std::future<Result> result) {
    while (result.wait_for(std::chrono::seconds(0)) != std::future_status::ready) {
      io_context.restart();
      if (io_context.run_one_for(std::chrono::seconds(10)) == 0)
        throw std::runtime_error("a change does not end");
    }
    return result.get();
  }
  template <typename Result>
  Result run(server::Awaitable<Result> change) {
    return finish(begin(std::move(change)));
  }
  // All exports of the server's one device.
  server::ExportGroup group() const { return server.exports()->all(); }
  // Sends a READ of 512 bytes to the first worker, and waits until it has come there and is not
  // begun.
  bool is_held_back(Client& client) {
    client.request(proto::Command::read, 1, 0, 512);
    auto& worker = *server.workers().front();
    auto unread = std::size_t{0};
    const auto look = [&] {
      for (const auto& connection : worker.connections())
        if (const auto state = connection->state()) unread += state->unread.size();
    };
    return eventually([&] {
      TestServer::on(worker, look);
      return unread > 0;
    });
  }

  server::asio::io_context io_context{1};
  engine::BlockingPool pool{1};
  TestServer server;
  server::LiveServer live{server.bounds(), io_context, pool, server.workers()};
};

}  // namespace test
