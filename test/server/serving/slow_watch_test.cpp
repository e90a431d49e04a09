#include "server/serving/slow_watch.h"

#include <sys/socket.h>

#include <catch2/catch.hpp>
#include <memory>

#include "server/serving/connection.h"
#include "test/double/memory_device.h"
#include "test/server/serving/test_host.h"
#include "test/support/log_lines.h"
#include "test/support/test_client.h"

using namespace std::chrono_literals;
using proto::Command;
using server::Request;

namespace {

// The watch looks four times within it, which is every 10 ms.
constexpr auto threshold = 40ms;

server::Bounds bounds_with(std::chrono::nanoseconds slow_request) {
  auto bounds = server::derive_bounds({});
  bounds.workers = 1;
  bounds.slow_request = slow_request;
  return bounds;
}

struct Watched {
  explicit Watched(std::chrono::nanoseconds slow_request = threshold)
      : host(bounds_with(slow_request)) {
    queues.add(server::make_queue(target, 16));
    host.queue = &queues.at(*target);
  }

  std::shared_ptr<server::Export> make_export() const {
    auto options = engine::MemoryDeviceOptions{};
    options.size = 1U << 20;
    return std::make_shared<server::Export>(
        server::ExportConfig{}, std::make_shared<engine::MemoryDevice>(options), host.bounds());
  }
  // Looks, as at the end of the next turn in which the timer has fired.
  void look() {
    watch.start_if_needed();
    host.io_context().restart();
    REQUIRE(host.io_context().run_one_for(10s) == 1);
  }
  std::uint64_t slow_count() const { return target->metrics()[0].requests_slow.value(); }

  test::LogLines log;
  test::TestHost host;
  std::shared_ptr<server::Export> target = make_export();
  server::ExportQueues queues{host, 0,
                              std::make_shared<const server::ExportTable>(std::vector{target})};
  server::SlowWatch watch{host, queues};
};

}  // namespace

TEST_CASE("nothing is looked for where nothing is slow, and where nothing is under way") {
  auto unlimited = Watched(std::chrono::nanoseconds::max());
  auto* const request = unlimited.host.requests().take_request(unlimited.host.no_connection(), 0);
  unlimited.watch.start_if_needed();
  CHECK(unlimited.host.io_context().run() == 0);
  unlimited.host.requests().give_back(*request->own);

  auto idle = Watched();
  idle.watch.start_if_needed();
  CHECK(idle.host.io_context().run() == 0);
}

TEST_CASE("a request is slow from the threshold until it ends, and its connection is told") {
  auto watched = Watched();
  int ends[2];
  REQUIRE(::socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, ends) == 0);
  auto handshake = server::Handshake{};
  auto negotiated = proto::Negotiated{};
  negotiated.export_description = watched.target->describe();
  handshake.target = watched.target;
  handshake.state = server::begin_transmission(
      {.name = "a test"}, std::move(negotiated),
      test::Client::encode_request(test::Style::simple, Command::flush, 1, 0, 0, 0));
  const auto connection = std::make_shared<server::Connection>(
      watched.host,
      std::make_unique<server::SocketTransport>(watched.host.io_context(),
                                                engine::FileDescriptor(ends[0]),
                                                server::ClientIdentity{.name = "a test"}),
      std::move(handshake));
  const auto client = engine::FileDescriptor(ends[1]);
  connection->start();
  connection->run();
  REQUIRE(watched.host.submitted.size() == 1);
  auto& request = *static_cast<server::Piece*>(watched.host.submitted.front())->request;

  request.received += 1h;
  watched.look();
  CHECK(watched.slow_count() == 0);
  CHECK_FALSE(request.reported_slow);
  request.received -= 2h;
  for (auto count = 0; count < 2; ++count) {
    watched.look();
    CHECK(watched.slow_count() == 1);
    CHECK(request.reported_slow);
  }

  watched.watch.start_if_needed();
  watched.host.submitted.front()->complete(0);
  connection->run();
  CHECK(watched.host.requests().taken() == 0);
  watched.look();
  CHECK(watched.slow_count() == 0);
  connection->abandon("the test is over");
}

TEST_CASE("two exports that count in one place have the slow requests of both") {
  auto watched = Watched();
  const auto successor = watched.make_export();
  successor->count_on(*watched.target);
  watched.queues.add(server::make_queue(successor, 16));
  auto* const request = watched.host.requests().take_request(watched.host.no_connection(), 0);
  request->received = server::Clock::now() + 1h;
  for (const auto* const target : {watched.target.get(), successor.get()})
    watched.queues.at(*target).count_slow_request();
  watched.look();
  CHECK(watched.slow_count() == 2);
  watched.look();
  CHECK(watched.slow_count() == 0);
  watched.host.requests().give_back(*request->own);
}
