#include "server/serving/handshake.h"

#include <sys/eventfd.h>

#include <algorithm>
#include <boost/asio/post.hpp>
#include <catch2/catch.hpp>
#include <functional>
#include <future>
#include <utility>

#include "test/support/test_server.h"

using test::Bytes;
using test::Client;
using test::TestServer;

namespace {

constexpr std::size_t greeting_size = 18;  // bytes
constexpr std::uint32_t abort_option = 2;
constexpr std::uint32_t go_option = 7;
constexpr std::uint32_t ack = 1;
constexpr std::uint32_t unsupported = 0x80000001;
constexpr std::uint32_t unknown_export = 0x80000006;

// A client that sends zero bytes behind an option header for as long as it is read from; it counts
// them.
class EndlessTransport final : public server::Transport {
 public:
  EndlessTransport(server::asio::io_context& io_context, Bytes beginning, std::size_t length)
      : Transport(stream(io_context)), beginning_(std::move(beginning)), length_(length) {}

  ssize_t read_some(std::span<const iovec> buffers) noexcept override {
    const auto room = std::span(static_cast<std::byte*>(buffers[0].iov_base), buffers[0].iov_len);
    if (!beginning_.empty()) {
      std::ranges::copy(beginning_, room.begin());
      return static_cast<ssize_t>(std::exchange(beginning_, {}).size());
    }
    if (received_ >= length_) return 0;
    std::ranges::fill(room, std::byte{});
    received_ += room.size();
    return static_cast<ssize_t>(room.size());
  }
  ssize_t write_some(std::span<const iovec> buffers) noexcept override {
    return static_cast<ssize_t>(buffers[0].iov_len);
  }
  std::size_t received() const noexcept { return received_; }

 private:
  static server::Stream stream(server::asio::io_context& io_context) {
    return {.input = server::Descriptor(io_context, ::eventfd(0, EFD_CLOEXEC)),
            .output = {},
            .client = {}};
  }

  Bytes beginning_;
  const std::size_t length_;
  std::size_t received_ = 0;
};

}  // namespace

TEST_CASE("a client that never stops sending does not keep others from their turn") {
  auto io_context = server::asio::io_context();
  const auto most = std::size_t{3} << 20;
  auto beginning = Bytes{std::byte{0}, std::byte{0}, std::byte{0}, std::byte{3}};
  const auto option = Client::encode_option_header(4711, most);
  beginning.insert(beginning.end(), option.begin(), option.end());
  auto endless = std::make_unique<EndlessTransport>(io_context, beginning, 2 * most);
  const auto& client = *endless;
  auto transport = std::unique_ptr<server::Transport>(std::move(endless));
  const auto exports =
      std::make_shared<const server::ExportTable>(std::vector<std::shared_ptr<server::Export>>{});
  auto bounds = server::Bounds{};
  bounds.options_max = 1U << 30;
  auto lingering = [&]() -> server::Awaitable<void> {
    co_await server::negotiate(transport, exports, bounds, nullptr);
    co_await server::linger(*transport);
  };
  server::asio::co_spawn(io_context, lingering(), server::asio::detached);
  auto turns_of_others = 0;
  auto received_before = std::size_t{0};
  auto longest = std::size_t{0};
  std::function<void()> other = [&] {
    longest = std::max(longest, client.received() - received_before);
    received_before = client.received();
    ++turns_of_others;
    if (client.received() < 2 * most) server::asio::post(io_context, other);
  };
  server::asio::post(io_context, other);
  io_context.run();
  CHECK(client.received() >= 2 * most);
  CHECK(longest <= 128U << 10);
}

TEST_CASE("an abort is acknowledged before the connection is closed") {
  auto server = TestServer();
  auto client = server.connect();
  client.greet();
  client.send_option(abort_option, Bytes(100));
  CHECK(client.receive_option_reply() == ack);
  CHECK(client.at_end());
}

TEST_CASE("an unknown client flag closes the connection") {
  auto server = TestServer();
  auto client = server.connect();
  client.greet(1U << 20);
  CHECK(client.at_end());
}

TEST_CASE("the handshake goes on after options and exports that do not exist") {
  auto server = TestServer();
  auto client = server.connect();
  client.greet();
  client.send_option(4711, Bytes(200'000));
  CHECK(client.receive_option_reply() == unsupported);
  client.send_option(go_option, Client::go_payload("another disk"));
  CHECK(client.receive_option_reply() == unknown_export);
  client.send_option(go_option, Client::go_payload(""));
  auto type = client.receive_option_reply();
  while (type == 3) type = client.receive_option_reply();
  CHECK(type == ack);
}

TEST_CASE("a client that says nothing is closed at the deadline") {
  auto server = TestServer({.handshake_deadline = std::chrono::seconds(1)});
  auto client = server.connect();
  client.greet();
  CHECK(client.at_end());
  server.wait_until_idle();
}

TEST_CASE("a client that never gets to an export is closed after so many options") {
  auto server = TestServer();
  auto client = server.connect();
  client.greet();
  CHECK_THROWS([&] {
    for (auto count = 0U; count < 2 * server.bounds().options_max; ++count) {
      client.send_option(4711, {});
      client.receive_option_reply();
    }
  }());
}

TEST_CASE("of a crowd without an export that comes at once the youngest stay") {
  auto server = TestServer({.handshake_deadline = std::chrono::seconds(100)});
  // The worker finds them all at once when it is let go on.
  auto gate = std::promise<void>{};
  server::asio::post(server.workers().front()->io_context(),
                     [opened = gate.get_future().share()] { opened.wait(); });
  auto clients = std::vector<Client>{};
  const auto most = server.bounds().handshakes_max_per_worker;
  for (auto index = 0U; index < 3 * most; ++index) clients.push_back(server.connect());
  gate.set_value();
  for (auto index = 0U; index < 2 * most; ++index) {
    CAPTURE(index);
    clients[index].receive(greeting_size);
    CHECK(clients[index].at_end());
  }
  clients.back().greet();
  clients.back().send_option(abort_option, {});
  CHECK(clients.back().receive_option_reply() == ack);
}

TEST_CASE("of too many clients without an export the oldest is closed") {
  auto server = TestServer({.connections_max = 16});
  auto clients = std::vector<Client>{};
  const auto count = server.bounds().handshakes_max_per_worker;
  for (auto index = 0U; index < count + 1; ++index) {
    clients.push_back(server.connect());
    clients.back().greet();
  }
  CHECK(clients.front().at_end());
  clients.back().send_option(abort_option, {});
  CHECK(clients.back().receive_option_reply() == ack);
}
