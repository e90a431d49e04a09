#include "server/serving/connection.h"

#include <sys/socket.h>

#include <catch2/catch.hpp>

#include "proto/constants.h"
#include "proto/request.h"
#include "test/support/eventually.h"
#include "test/support/test_server.h"

using proto::Command;
using test::Bytes;
using test::Client;
using test::pattern;
using test::Style;
using test::TestServer;
using test::TestServerOptions;

namespace {

constexpr auto all_styles = {Style::simple, Style::structured, Style::extended};

Bytes part(const Bytes& bytes, std::size_t begin, std::size_t length) {
  return {bytes.begin() + static_cast<std::ptrdiff_t>(begin),
          bytes.begin() + static_cast<std::ptrdiff_t>(begin + length)};
}

}  // namespace

TEST_CASE("what was written is read back at every alignment and in every header style") {
  auto server = TestServer({.block_size = 4096});
  for (const auto style : all_styles) {
    auto client = server.connect();
    client.go(TestServer::export_name, style);
    for (const auto offset : {0U, 1U, 511U, 512U, 4095U, 4096U, 70000U}) {
      for (const auto length : {1U, 512U, 4096U, 5000U, 65536U, 100001U}) {
        CAPTURE(offset, length);
        const auto data = pattern(length, offset + length);
        CHECK(client.call(Command::write, offset, length, 0, data).error == 0);
        CHECK(client.call(Command::read, offset, length).data == data);
      }
    }
  }
}

TEST_CASE("a request larger than a buffer is done in pieces within the memory") {
  auto server = TestServer({.size = 64U << 20, .block_size = 4096, .memory = 8U << 20});
  for (const auto style : all_styles) {
    auto client = server.connect();
    client.go(TestServer::export_name, style);
    const auto length = std::size_t{32} << 20;
    const auto data = pattern(length, static_cast<unsigned>(style));
    CHECK(client.call(Command::write, 777, length, 0, data).error == 0);
    const auto result = client.call(Command::read, 777, length);
    CHECK(result.error == 0);
    CHECK((result.data == data));
  }
}

TEST_CASE("replies do not get into a simple reply that is sent in pieces") {
  auto server =
      TestServer({.size = 64U << 20, .faults = {.seed = 7, .delay_percent = 50, .reorder = true}});
  auto client = server.connect();
  client.go(TestServer::export_name);
  const auto length = std::size_t{4} << 20;
  const auto data = pattern(length, 3);
  REQUIRE(client.call(Command::write, 0, length, 0, data).error == 0);
  // Two large reads, with small ones around them: whatever the order, each reply must be whole.
  client.request(Command::read, 1, 0, 4096);
  client.request(Command::read, 2, 0, length);
  client.request(Command::read, 3, 8192, 4096);
  client.request(Command::read, 4, 0, length);
  client.request(Command::read, 5, 4096, 512);
  auto missing = std::size_t{5};
  for (; missing > 0; --missing) {
    const auto header = client.receive(16);
    const auto cookie = static_cast<unsigned>(header.back());
    CAPTURE(cookie);
    REQUIRE(cookie >= 1);
    REQUIRE(cookie <= 5);
    const auto large = cookie == 2 || cookie == 4;
    const auto size = large ? length : cookie == 5 ? 512 : 4096;
    const auto begin = cookie == 3 ? 8192U : cookie == 5 ? 4096U : 0U;
    CHECK((client.receive(size) == part(data, begin, size)));
  }
}

TEST_CASE("a failing piece behind the header of a simple reply ends the connection") {
  auto server = TestServer({.size = 64U << 20, .memory = 4U << 20});
  auto client = server.connect();
  client.go(TestServer::export_name);
  // Larger than a connection may hold, so that the reply begins before the last pieces are read.
  client.request(Command::read, 1, 0, 32U << 20);
  const auto header = client.receive(16);
  server.faults().fail_next(engine::Operation::read, EIO);
  CHECK_THROWS(client.receive(32U << 20));
  CHECK(client.at_end());
  client.close();
  server.wait_until_idle();
}

TEST_CASE(
    "errors of the device become errors of the reply, with a text where the client takes one") {
  auto server = TestServer();
  struct Case {
    Command command;
    engine::Operation operation;
    int error;
    std::uint32_t expected;
  };
  const auto cases = {
      Case{Command::read, engine::Operation::read, EIO, 5},
      Case{Command::write, engine::Operation::write, ENOSPC, 28},
      Case{Command::write, engine::Operation::write, EDQUOT, 28},
      Case{Command::flush, engine::Operation::flush, EIO, 5},
      Case{Command::trim, engine::Operation::discard, EOPNOTSUPP, 5},
      Case{Command::write_zeroes, engine::Operation::write_zeroes, EPERM, 1},
  };
  for (const auto style : all_styles) {
    auto client = server.connect();
    client.go(TestServer::export_name, style);
    for (const auto& [command, operation, error, expected] : cases) {
      CAPTURE(static_cast<int>(style), static_cast<int>(command));
      server.faults().fail_next(operation, error);
      const auto length = command == Command::flush ? 0U : 4096U;
      const auto data = pattern(command == Command::write ? length : 0, 1);
      const auto result = client.call(command, 0, length, 0, data);
      CHECK(result.error == expected);
      CHECK(result.text.empty() == (style == Style::simple));
      CHECK(client.call(Command::read, 0, 512).error == 0);
    }
  }
}

TEST_CASE("a refused WRITE's payload is consumed and the next request works") {
  auto server = TestServer({.read_only = true});
  for (const auto style : all_styles) {
    auto client = server.connect();
    client.go(TestServer::export_name, style);
    CHECK(client.call(Command::write, 0, 300000, 0, pattern(300000, 1)).error == 1);
    CHECK(client.call(Command::read, 0, 512).error == 0);
  }
}

TEST_CASE("requests that cannot be answered do not end the connection") {
  auto server = TestServer();
  const auto size = std::uint64_t{8} << 20;
  struct Case {
    Command command;
    std::uint64_t offset;
    std::uint32_t length;
    std::uint16_t flags;
    std::uint32_t error;
  };
  const auto cases = {
      Case{Command::read, size - 1, 2, 0, 22},
      Case{Command::read, ~std::uint64_t{0}, 2, 0, 22},
      Case{Command::write, size - 1, 2, 0, 28},
      Case{Command::write_zeroes, size, 1, 0, 28},
      Case{Command::trim, size, 1, 0, 22},
      Case{static_cast<Command>(4711), 0, 0, 0, 22},
      Case{Command::read, 0, 512, 1U << 14, 22},
      Case{Command::block_status, 0, 512, 0, 22},
      Case{Command::read, 0, 0, 0, 0},
      Case{Command::write, 0, 0, 0, 0},
      Case{Command::trim, 0, 0, 0, 0},
      Case{Command::write_zeroes, 0, 0, 0, 0},
      Case{Command::flush, 0, 0, proto::command_flag::fua, 0},
  };
  for (const auto style : all_styles) {
    auto client = server.connect();
    client.go(TestServer::export_name, style);
    for (const auto& [command, offset, length, flags, error] : cases) {
      CAPTURE(static_cast<int>(style), static_cast<int>(command), offset, length, flags);
      const auto data = pattern(command == Command::write ? length : 0, 1);
      CHECK(client.call(command, offset, length, flags, data).error == error);
    }
    CHECK(client.call(Command::read, 0, 512).error == 0);
  }
}

TEST_CASE("a wrong magic number ends the connection") {
  auto server = TestServer();
  auto client = server.connect();
  client.go(TestServer::export_name);
  client.send(pattern(28, 1));
  CHECK(client.at_end());
}

TEST_CASE("zeroes are read as holes and reported as such") {
  auto server = TestServer();
  for (const auto style : {Style::structured, Style::extended}) {
    auto client = server.connect();
    client.go(TestServer::export_name, style, true);
    REQUIRE(client.call(Command::write_zeroes, 0, 1U << 20).error == 0);
    const auto data = pattern(8192, 5);
    REQUIRE(client.call(Command::write, 65536, data.size(), 0, data).error == 0);
    auto expected = Bytes(1U << 20);
    std::copy(data.begin(), data.end(), expected.begin() + 65536);

    const auto sparse = client.call(Command::read, 0, 1U << 20);
    CHECK((sparse.data == expected));
    CHECK(sparse.hole_chunks > 0);
    const auto whole = client.call(Command::read, 0, proto::df_length_max, proto::command_flag::df);
    CHECK((whole.data == part(expected, 0, proto::df_length_max)));
    CHECK(whole.content_chunks + whole.hole_chunks == 1);

    using Extents = std::vector<std::pair<std::uint64_t, std::uint32_t>>;
    const auto status = client.call(Command::block_status, 0, 1U << 20);
    CHECK(status.extents.size() == 3);
    CHECK(status.extents.at(1) == Extents::value_type{8192, 0});
    CHECK(client.call(Command::block_status, 0, 1U << 20, proto::command_flag::req_one).extents ==
          Extents{{65536, 3}});
    CHECK(client.call(Command::block_status, 0, 0).error == 22);
  }
}

TEST_CASE("an unfragmented read is one chunk at any alignment") {
  for (const auto block_size : {512U, 4096U, 65536U}) {
    auto server = TestServer({.block_size = block_size});
    const auto data = pattern(4U << 20, 1);
    for (const auto style : {Style::structured, Style::extended}) {
      auto client = server.connect();
      client.go(TestServer::export_name, style);
      REQUIRE(client.call(Command::write, 0, data.size(), 0, data).error == 0);
      for (const auto offset : {0U, 1U, 511U, 65535U}) {
        CAPTURE(block_size, offset);
        const auto result =
            client.call(Command::read, offset, proto::df_length_max, proto::command_flag::df);
        CHECK(result.content_chunks == 1);
        CHECK((result.data == part(data, offset, proto::df_length_max)));
      }
    }
  }
}

TEST_CASE("more requests than the connection has slots are all answered") {
  auto server = TestServer();
  auto client = server.connect();
  client.go(TestServer::export_name, Style::structured);
  const auto count = 1000U;
  for (auto cookie = 0U; cookie < count; ++cookie) client.request(Command::flush, cookie, 0, 0);
  auto seen = std::vector<bool>(count);
  for (auto index = 0U; index < count; ++index) {
    const auto reply = client.receive_reply();
    REQUIRE(reply.cookie < count);
    CHECK_FALSE(seen[reply.cookie]);
    seen[reply.cookie] = true;
  }
}

TEST_CASE("refused requests beyond the slots of a connection are all answered") {
  auto server = TestServer();
  auto client = server.connect();
  client.go(TestServer::export_name, Style::simple);
  auto bytes = Bytes{};
  for (auto cookie = 0U; cookie < 1000; ++cookie) {
    const auto header =
        Client::encode_request(Style::simple, static_cast<Command>(99), cookie, 0, 0, 0);
    bytes.insert(bytes.end(), header.begin(), header.end());
  }
  client.send(bytes);
  for (auto cookie = 0U; cookie < 1000; ++cookie) CHECK(client.receive_reply().cookie == cookie);
}

TEST_CASE("a request that arrives a byte at a time is served") {
  auto server = TestServer();
  auto client = server.connect();
  client.go(TestServer::export_name, Style::extended);
  const auto data = pattern(600, 1);
  auto bytes = Client::encode_request(Style::extended, Command::write, 1, 10, data.size(), 1U << 5);
  bytes.insert(bytes.end(), data.begin(), data.end());
  for (const auto byte : bytes) client.send(std::span(&byte, 1));
  CHECK(client.result(1, Command::write, 10, data.size()).error == 0);
  CHECK(client.call(Command::read, 10, data.size()).data == data);
}

TEST_CASE("requests in the same segment as the GO are served") {
  auto server = TestServer();
  auto client = server.connect();
  client.greet();
  client.send_option(7, Client::go_payload(TestServer::export_name));
  client.send(Client::encode_request(Style::simple, Command::read, 42, 0, 512, 0));
  while (client.receive_option_reply() != 1) {
  }
  const auto reply = client.receive_reply(512);
  CHECK(reply.cookie == 42);
  CHECK(reply.payload == Bytes(512));
}

TEST_CASE("a client that has closed its sending side still gets its replies") {
  auto server = TestServer();
  auto client = server.connect();
  client.go(TestServer::export_name, Style::structured);
  server.faults().hold(engine::Faults::Hold::starts);
  for (auto cookie = 0U; cookie < 10; ++cookie)
    client.request(Command::read, cookie, 4096 * cookie, 4096);
  ::shutdown(client.fd(), SHUT_WR);
  REQUIRE(server.faults().wait_for_held(10));
  server.faults().release_all();
  for (auto index = 0U; index < 10; ++index) CHECK(client.receive_reply().cookie < 10);
  CHECK(client.at_end());
  server.wait_until_idle();
}

TEST_CASE("DISC is obeyed after everything in flight has been answered") {
  auto server = TestServer();
  auto client = server.connect();
  client.go(TestServer::export_name);
  server.faults().hold(engine::Faults::Hold::starts);
  client.request(Command::flush, 7, 0, 0);
  client.request(Command::disconnect, 8, 0, 0);
  REQUIRE(server.faults().wait_for_held(1));
  server.faults().release_all();
  CHECK(client.receive_reply().cookie == 7);
  CHECK(client.at_end());
}

TEST_CASE("a client that dies at any byte leaves nothing behind") {
  auto server = TestServer({.block_size = 4096});
  auto stream = Client::encode_request(Style::simple, Command::write, 1, 100, 5000, 0);
  const auto data = pattern(5000, 9);
  stream.insert(stream.end(), data.begin(), data.end());
  const auto second = Client::encode_request(Style::simple, Command::read, 2, 0, 4U << 20, 0);
  stream.insert(stream.end(), second.begin(), second.end());
  for (auto length = std::size_t{0}; length <= stream.size(); length += length < 64 ? 1 : 331) {
    auto client = server.connect();
    client.go(TestServer::export_name);
    client.send(std::span(stream).first(length));
    client.close();
  }
  server.wait_until_idle();
  // All slots and buffers are free again: the largest request still works.
  auto client = server.connect();
  client.go(TestServer::export_name);
  CHECK(client.call(Command::read, 0, 8U << 20).error == 0);
}

TEST_CASE("a client that never reads stalls itself alone") {
  auto server = TestServer({.size = 64U << 20, .memory = 8U << 20});
  auto hogs = std::vector<Client>{};
  for (auto index = 0; index < 4; ++index) {
    auto& hog = hogs.emplace_back(server.connect());
    hog.go(TestServer::export_name);
    for (auto cookie = 0U; cookie < 64; ++cookie) hog.request(Command::read, cookie, 0, 1U << 20);
  }
  auto client = server.connect();
  client.go(TestServer::export_name);
  for (auto index = 0U; index < 50; ++index) {
    const auto data = pattern(65536, index);
    REQUIRE(client.call(Command::write, index * 65536, data.size(), 0, data).error == 0);
    REQUIRE((client.call(Command::read, index * 65536, data.size()).data == data));
  }
}

TEST_CASE("a dead client's writes never land after those of its successor") {
  for (const auto worker : {0U, 1U}) {
    CAPTURE(worker);
    auto server = TestServer({.workers = 2});
    const auto data = pattern(4096, 2);
    server.faults().hold(engine::Faults::Hold::starts);
    auto old_client = server.connect_to_worker(0);
    old_client.go(TestServer::export_name);
    old_client.request(Command::write, 1, 0, 4096, 0, pattern(4096, 1));
    REQUIRE(server.faults().wait_for_held(1));
    old_client.close();

    auto new_client = server.connect_to_worker(worker);
    new_client.go(TestServer::export_name);
    new_client.request(Command::write, 1, 0, data.size(), 0, data);
    // Were it submitted now, it would be held as well and could overtake. Rounds of other clients
    // on that worker show that there was every opportunity.
    for (auto round = 0; round < 10; ++round) server.connect_to_worker(worker).greet();
    CHECK(server.faults().held_count() == 1);

    server.faults().release_all();
    REQUIRE(new_client.result(1, Command::write, 0, data.size()).error == 0);
    CHECK(new_client.call(Command::read, 0, data.size()).data == data);
  }
}

TEST_CASE("a half-closed client that reads slowly is neither cut nor waited for by others") {
  auto server = TestServer();
  auto slow = server.connect();
  slow.go(TestServer::export_name, Style::structured);
  constexpr auto count = 3U;
  const auto length = std::size_t{4} << 20;
  const auto data = pattern(length, 1);
  REQUIRE(slow.call(Command::write, 0, length, 0, data).error == 0);
  slow.request(Command::read, 0, 0, length);
  REQUIRE(test::eventually([&] { return slow.has_input(); }));
  // The first one is under way until the client reads, so these stay in the socket.
  for (auto cookie = 1U; cookie < count; ++cookie) slow.request(Command::read, cookie, 0, length);
  ::shutdown(slow.fd(), SHUT_WR);

  auto other = server.connect();
  other.go(TestServer::export_name);
  const auto begin = std::chrono::steady_clock::now();
  CHECK(other.call(Command::write, 0, 512, 0, pattern(512, 2)).error == 0);
  CHECK(std::chrono::steady_clock::now() - begin < server.bounds().fence_deadline / 2);

  for (auto missing = count; missing > 0;) {
    const auto reply = slow.receive_reply();
    if ((reply.flags & proto::reply_flag_done) != 0) --missing;
  }
  CHECK(slow.at_end());
}

TEST_CASE("draining answers what has arrived and closes") {
  auto server = TestServer();
  auto client = server.connect();
  client.go(TestServer::export_name);
  server.faults().hold(engine::Faults::Hold::starts);
  client.request(Command::flush, 1, 0, 0);
  REQUIRE(server.faults().wait_for_held(1));
  for (auto& worker : server.workers()) worker->drain();
  server.faults().release_all();
  CHECK(client.receive_reply().cookie == 1);
  CHECK(client.at_end());
}

TEST_CASE("draining in the middle of a payload answers ESHUTDOWN and writes nothing") {
  auto server = TestServer();
  auto client = server.connect();
  client.go(TestServer::export_name);
  auto bytes = Client::encode_request(Style::simple, Command::flush, 8, 0, 0, 0);
  const auto header = Client::encode_request(Style::simple, Command::write, 9, 0, 4096, 0);
  bytes.insert(bytes.end(), header.begin(), header.end());
  bytes.resize(bytes.size() + 100, std::byte{1});
  client.send(bytes);
  REQUIRE(client.receive_reply().cookie == 8);  // so the beginning of the WRITE has arrived, too
  for (auto& worker : server.workers()) worker->drain();
  const auto reply = client.receive_reply();
  CHECK(reply.cookie == 9);
  CHECK(reply.error == 108);
  CHECK(client.at_end());
}
