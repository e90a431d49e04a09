#include "server/net/tls_transport.h"

#include <fcntl.h>
#include <sys/socket.h>

#include <array>
#include <catch2/catch.hpp>
#include <cerrno>
#include <latch>
#include <string_view>

#include "test/support/temporary_file.h"

using namespace server;

namespace {

// Keeps a thread of the pool from the work on keys.
class Gate final : public engine::BlockingPool::Job {
 public:
  void run() noexcept override { open_.wait(); }
  void open() { open_.count_down(); }

 private:
  std::latch open_{1};
};

TlsConfig with_keys(const test::TemporaryFile& file) {
  auto config = TlsConfig{};
  config.mode = proto::TlsMode::require;
  config.psk_file = file.path();
  return config;
}

enum class Outcome { none, agreed, failed };

Awaitable<void> shake_hands(TlsTransport& transport, Outcome& outcome) {
  const auto agreed = co_await transport.shake_hands();
  outcome = agreed ? Outcome::agreed : Outcome::failed;
}

// A handshake with a client that sends no TLS, while all threads for the work on keys are busy.
struct Handshake {
  Handshake() {
    auto& pool = context.credentials()->handshake_pool();
    pool.run(gate);
    pool.run(other);
    auto ends = std::array<int, 2>{};
    REQUIRE(::socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0, ends.data()) == 0);
    client = engine::FileDescriptor(ends[1]);
    descriptor = ends[0];
    constexpr auto nonsense = std::string_view("GET / HTTP/1.1\r\n\r\n");
    REQUIRE(::send(client.get(), nonsense.data(), nonsense.size(), 0) > 0);
    auto stream = Stream{.input = Descriptor(io_context, descriptor),
                         .output = std::nullopt,
                         .client = ClientIdentity{.name = "somebody"}};
    transport = std::make_unique<TlsTransport>(std::move(stream), context.credentials());
    asio::co_spawn(io_context, shake_hands(*transport, outcome), asio::detached);
    io_context.poll();
  }

  void open_gates() {
    gate.open();
    other.open();
  }

  const test::TemporaryFile file{"alice:00112233445566778899aabbccddeeff\n"};
  Gate gate;
  Gate other;
  TlsContext context{with_keys(file)};
  asio::io_context io_context{1};
  engine::FileDescriptor client;
  int descriptor = -1;  // of the transport
  std::unique_ptr<TlsTransport> transport;
  Outcome outcome = Outcome::none;
};

}  // namespace

TEST_CASE("the thread of a transport goes on while the work on keys has to wait for one") {
  Handshake handshake;
  CHECK(handshake.outcome == Outcome::none);
  auto others_turn = false;
  asio::post(handshake.io_context, [&] { others_turn = true; });
  handshake.io_context.poll();
  CHECK(others_turn);
  CHECK(handshake.outcome == Outcome::none);
  handshake.open_gates();
  handshake.io_context.run();
  CHECK(handshake.outcome == Outcome::failed);
  CHECK(handshake.transport->is_open());  // the client may read why
}

TEST_CASE(
    "a transport that is closed during the work on keys keeps its descriptor until that ends") {
  Handshake handshake;
  handshake.transport->close();
  CHECK(::fcntl(handshake.descriptor, F_GETFD) >= 0);
  auto byte = std::byte{};
  CHECK(::recv(handshake.client.get(), &byte, 1, 0) == 0);  // the client knows at once
  handshake.io_context.poll();
  CHECK(handshake.outcome == Outcome::none);
  handshake.open_gates();
  handshake.io_context.run();
  CHECK(handshake.outcome == Outcome::failed);
  CHECK_FALSE(handshake.transport->is_open());
  CHECK(::fcntl(handshake.descriptor, F_GETFD) < 0);
}
