#include "test/bench/connection.h"

#include <sys/socket.h>

#include <array>
#include <cstring>
#include <memory>
#include <stdexcept>

#include <boost/endian/conversion.hpp>
#include <catch2/catch.hpp>

using bench::Connection;
using proto::Command;

namespace {

struct SentRequest {
  Command command = Command::read;
  std::uint64_t cookie = 0;
  std::uint64_t offset = 0;
  std::uint32_t length = 0;
};

// A connection and, at the other end of a socket pair, the test as its server.
struct Bench {
  Bench(const bench::WorkloadOptions& workload, const bench::ConnectionOptions& options) {
    int ends[2] = {};
    REQUIRE(::socketpair(AF_UNIX, SOCK_STREAM, 0, ends) == 0);
    peer = engine::FileDescriptor(ends[1]);
    bench::Session session;
    session.socket = engine::FileDescriptor(ends[0]);
    connection = std::make_unique<Connection>(
        std::move(session), bench::Workload(workload, 1, 0, 1), options, content, results);
  }

  template <typename Number>
  Number take() {
    Number number{};
    REQUIRE(::recv(peer.get(), &number, sizeof number, MSG_DONTWAIT) == sizeof number);
    return boost::endian::big_to_native(number);
  }
  SentRequest take_request() {
    REQUIRE(take<std::uint32_t>() == proto::request_magic);
    REQUIRE(take<std::uint16_t>() == 0);
    SentRequest request;
    request.command = static_cast<Command>(take<std::uint16_t>());
    request.cookie = take<std::uint64_t>();
    request.offset = take<std::uint64_t>();
    request.length = take<std::uint32_t>();
    return request;
  }
  bool nothing_to_take() {
    char byte = 0;
    return ::recv(peer.get(), &byte, 1, MSG_DONTWAIT) < 0;
  }
  void reply(std::uint64_t cookie, std::uint32_t error, std::span<const std::byte> payload) {
    std::vector<std::byte> message(16 + payload.size());
    const std::uint32_t magic = boost::endian::native_to_big(proto::simple_reply_magic);
    const std::uint32_t big_error = boost::endian::native_to_big(error);
    const std::uint64_t big_cookie = boost::endian::native_to_big(cookie);
    std::memcpy(&message[0], &magic, 4);
    std::memcpy(&message[4], &big_error, 4);
    std::memcpy(&message[8], &big_cookie, 8);
    std::copy(payload.begin(), payload.end(), message.begin() + 16);
    REQUIRE(::send(peer.get(), message.data(), message.size(), 0) ==
            static_cast<ssize_t>(message.size()));
  }

  bench::Content content{1, 64U << 10};
  bench::Results results;
  engine::FileDescriptor peer;
  std::unique_ptr<Connection> connection;
  std::vector<std::byte> buffer = std::vector<std::byte>(64U << 10);
};

const bench::WorkloadOptions reads{.mix = {{Command::read, 512, 1}}, .range_length = 1U << 20};
const bench::WorkloadOptions writes{.mix = {{Command::write, 512, 1}}, .range_length = 1U << 20};

}  // namespace

TEST_CASE(
    "no more requests are in flight than the depth, and replies in any order make room for new "
    "ones") {
  Bench bench(reads, {.depth = 3});
  CHECK(bench.connection->fill(100, 0) == 3);
  bench.connection->send();
  std::array<SentRequest, 3> requests;
  for (auto& request : requests) request = bench.take_request();
  CHECK(bench.nothing_to_take());

  bench.reply(requests[2].cookie, 0, bench.content.at(requests[2].offset, 512));
  bench.reply(requests[0].cookie, 0, bench.content.at(requests[0].offset, 512));
  CHECK(bench.connection->receive(bench.buffer, false));
  CHECK(bench.connection->in_flight() == 1);
  CHECK(bench.results.operation_count() == 2);
  CHECK(bench.results.bytes == 1024);
  CHECK(bench.connection->fill(100, 0) == 2);
  CHECK(bench.connection->fill(100, 0) == 0);
  CHECK_FALSE(bench.connection->receive(bench.buffer, false));
  CHECK(bench.results.clean());
}

TEST_CASE("the allowance bounds what is filled") {
  Bench bench(reads, {.depth = 8});
  CHECK(bench.connection->fill(5, 0) == 5);
  CHECK(bench.connection->fill(0, 0) == 0);
  CHECK(bench.connection->in_flight() == 5);
}

TEST_CASE("a write carries the contents of its offset") {
  Bench bench(writes, {.depth = 2});
  bench.connection->fill(2, 0);
  bench.connection->send();
  for (int i = 0; i < 2; ++i) {
    const auto request = bench.take_request();
    CHECK(request.command == Command::write);
    std::vector<std::byte> payload(request.length);
    REQUIRE(::recv(bench.peer.get(), payload.data(), payload.size(), MSG_DONTWAIT) == 512);
    CHECK_FALSE(bench.content.mismatch(request.offset, payload));
    bench.reply(request.cookie, 0, {});
  }
  bench.connection->receive(bench.buffer, false);
  CHECK(bench.results.operations[static_cast<std::size_t>(Command::write)] == 2);
}

TEST_CASE("a batch larger than the socket's buffer is sent piece by piece and arrives whole") {
  const bench::WorkloadOptions large{.mix = {{Command::write, 64U << 10, 1}},
                                     .range_length = 16U << 20};
  Bench bench(large, {.depth = 32});
  bench.connection->fill(32, 0);
  bench.connection->send();
  REQUIRE(bench.connection->has_unsent());
  for (int i = 0; i < 32; ++i) {
    const auto request = bench.take_request();
    std::vector<std::byte> payload;
    while (payload.size() < request.length) {
      std::vector<std::byte> part(request.length - payload.size());
      const ssize_t received = ::recv(bench.peer.get(), part.data(), part.size(), MSG_DONTWAIT);
      if (received > 0) payload.insert(payload.end(), part.begin(), part.begin() + received);
      bench.connection->send();
    }
    REQUIRE_FALSE(bench.content.mismatch(request.offset, payload));
  }
  CHECK_FALSE(bench.connection->has_unsent());
  CHECK(bench.nothing_to_take());
}

TEST_CASE("wrong contents are counted only when they are to be verified") {
  const bool verify = GENERATE(false, true);
  Bench bench(reads, {.depth = 1, .verify = verify});
  bench.connection->fill(1, 0);
  bench.connection->send();
  const auto request = bench.take_request();
  bench.reply(request.cookie, 0, bench.content.at(request.offset + 8, 512));
  bench.connection->receive(bench.buffer, false);
  CHECK(bench.results.mismatches == (verify ? 1 : 0));
  CHECK(bench.results.operation_count() == (verify ? 0 : 1));
  CHECK(bench.results.clean() != verify);
  CHECK(bench.connection->in_flight() == 0);
}

TEST_CASE("an error reply is counted as an error and not as an operation") {
  Bench bench(reads, {.depth = 1});
  bench.connection->fill(1, 0);
  bench.connection->send();
  bench.reply(bench.take_request().cookie, 5, {});
  bench.connection->receive(bench.buffer, false);
  CHECK(bench.results.errors == std::map<std::uint32_t, std::uint64_t>{{5, 1}});
  CHECK(bench.results.operation_count() == 0);
  CHECK(bench.connection->fill(1, 0) == 1);
}

TEST_CASE("a reply to nothing, a reply twice and a closed connection end it") {
  Bench bench(reads, {.depth = 2});
  bench.connection->fill(1, 0);
  bench.connection->send();
  const auto cookie = bench.take_request().cookie;
  SECTION("an unknown cookie") { bench.reply(cookie + 1, 0, {}); }
  SECTION("a cookie beyond the slots") { bench.reply(~std::uint64_t{0}, 0, {}); }
  SECTION("the same reply twice") {
    bench.reply(cookie, 5, {});
    bench.reply(cookie, 5, {});
  }
  SECTION("the server closes") { bench.peer = engine::FileDescriptor(); }
  CHECK_THROWS_AS(bench.connection->receive(bench.buffer, false), std::runtime_error);
}
