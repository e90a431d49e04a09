#include "server/serving/reception.h"

#include <sys/socket.h>

#include <catch2/catch.hpp>
#include <functional>
#include <memory>
#include <new>
#include <string>
#include <vector>

#include "test/server/serving/test_host.h"
#include "test/support/test_client.h"
#include "test/support/test_server.h"

using server::Handshake;
using server::Reception;
using server::Transport;
using test::Client;

namespace {

server::Bounds few_handshakes() {
  auto bounds = server::derive_bounds({});
  bounds.handshakes_max_per_worker = 4;
  return bounds;
}

// A reception without a worker, whose events happen when its clients are looked after.
class Desk {
 public:
  Desk() { queues_.add(server::make_queue(server_.target(), 8)); }

  std::function<void(std::unique_ptr<Transport>, Handshake)> negotiated =
      [](const std::unique_ptr<Transport>&, const Handshake&) {};
  int gone = 0;

  Client connect_from(const std::string& host) {
    int ends[2];
    REQUIRE(::socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, ends) == 0);
    reception_.accept(std::make_unique<server::SocketTransport>(
        host_.io_context(), engine::FileDescriptor(ends[0]),
        server::ClientIdentity{.name = host, .host = host}));
    look_after();
    return Client(engine::FileDescriptor(ends[1]));
  }
  void look_after() {
    host_.io_context().restart();
    host_.io_context().poll();
  }

 private:
  test::TestServer server_;  // for an export
  test::TestHost host_{few_handshakes()};
  server::WorkerMetrics metrics_;
  server::ExportQueues queues_{host_, 0, server_.exports()};
  Reception reception_{host_,
                       queues_,
                       nullptr,
                       metrics_,
                       {.negotiated =
                            [this](std::unique_ptr<Transport> transport, Handshake handshake) {
                              negotiated(std::move(transport), std::move(handshake));
                            },
                        .gone = [this] { ++gone; }}};
};

bool is_open(const Client& client) {
  char byte = 0;
  return ::recv(client.fd(), &byte, 1, MSG_PEEK | MSG_DONTWAIT) == 1;  // of the greeting
}

}  // namespace

TEST_CASE("the oldest visitor of the host that has the most of them makes room") {
  auto desk = Desk();
  const auto honest = desk.connect_from("192.0.2.1");
  auto crowd = std::vector<Client>{};
  for (auto index = 0; index < 8; ++index) crowd.push_back(desk.connect_from("192.0.2.9"));
  const auto later = desk.connect_from("192.0.2.2");
  desk.look_after();
  CHECK(desk.gone == 6);
  CHECK(is_open(honest));
  CHECK(is_open(later));
  for (auto index = 0U; index < 6; ++index) {
    crowd[index].receive(18);
    CHECK(crowd[index].at_end());
  }
}

TEST_CASE("a client that cannot be served for want of memory is gone, not lost") {
  auto desk = Desk();
  desk.negotiated = [](const std::unique_ptr<Transport>&, const Handshake&) {
    throw std::bad_alloc();
  };
  auto client = desk.connect_from("192.0.2.1");
  client.greet();
  client.send_option(7, Client::go_payload(test::TestServer::export_name));
  desk.look_after();
  CHECK(desk.gone == 1);
}
