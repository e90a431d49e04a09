// Clients may do what they like to the memory that a worker's connections share: nobody waits for
// ever.
#include <poll.h>
#include <sys/socket.h>

#include <atomic>
#include <catch2/catch.hpp>
#include <chrono>
#include <exception>
#include <thread>

#include "engine/mutex.h"
#include "test/support/test_server.h"

using proto::Command;
using test::Bytes;
using test::Client;
using test::pattern;
using test::Style;
using test::TestServer;

namespace {

constexpr auto memory_min = 4U << 20;  // bytes: the least a worker can have

// Sends small READs and a large one behind them, so that replies to the small ones may have to wait
// until the large one's is complete; then takes all replies.
void read_small_and_large(Client& client, unsigned rounds) {
  constexpr auto small_count = 40U;
  constexpr auto small = std::size_t{16} << 10;
  constexpr auto large = std::size_t{2} << 20;
  for (auto round = 0U; round < rounds; ++round) {
    for (auto cookie = 0U; cookie < small_count; ++cookie)
      client.request(Command::read, cookie, cookie * small, small);
    client.request(Command::read, small_count, 0, large);
    for (auto missing = small_count + 1; missing > 0; --missing) {
      const auto header = client.receive(16);
      client.receive(static_cast<unsigned>(header.back()) == small_count ? large : small);
    }
  }
}

}  // namespace

TEST_CASE("simple replies that wait for a large one do not use up the memory it needs") {
  for (const auto seed : {1U, 2U, 3U}) {
    CAPTURE(seed);
    auto server = TestServer(
        {.memory = memory_min, .faults = {.seed = seed, .delay_percent = 50, .reorder = true}});
    auto failure = std::exception_ptr{};
    engine::Mutex mutex;
    auto threads = std::vector<std::thread>{};
    for (auto index = 0; index < 8; ++index) {
      threads.emplace_back([&] {
        try {
          auto client = server.connect();
          client.go(TestServer::export_name);
          read_small_and_large(client, 6);
        } catch (...) {
          const engine::MutexLock lock(mutex);
          failure = std::current_exception();
        }
      });
    }
    for (auto& thread : threads) thread.join();
    if (failure) std::rethrow_exception(failure);
    server.wait_until_idle();
  }
}

TEST_CASE("more busy connections than the memory has receive buffers are all served") {
  auto server = TestServer({.memory = memory_min,
                            .connections_max = 1000,
                            .faults = {.delay_percent = 50, .reorder = true}});
  auto clients = std::vector<Client>{};
  for (auto index = 0; index < 200; ++index) {
    clients.push_back(server.connect());
    clients.back().go(TestServer::export_name);
  }
  // Few enough for the sockets to hold all replies: no client stands in the way of another.
  constexpr auto count = 25U;
  auto requests = Bytes{};
  for (auto cookie = 0U; cookie < count; ++cookie) {
    const auto header =
        Client::encode_request(Style::simple, Command::read, cookie, cookie * 4096, 4096, 0);
    requests.insert(requests.end(), header.begin(), header.end());
  }
  for (auto& client : clients) client.send(requests);
  for (auto& client : clients)
    for (auto missing = count; missing > 0; --missing) CHECK(client.receive_reply(4096).error == 0);
}

TEST_CASE("clients that have stopped reading one after the other do not starve the next") {
  auto server = TestServer({.memory = memory_min, .stall_deadline = std::chrono::seconds(1)});
  auto hogs = std::vector<Client>{};
  for (auto index = 0; index < 12; ++index) {
    auto& hog = hogs.emplace_back(server.connect());
    hog.go(TestServer::export_name);
    for (auto cookie = 0U; cookie < 32; ++cookie) hog.request(Command::read, cookie, 0, 1U << 20);
    // It has got what it can get when the next one comes.
    auto state = pollfd{.fd = hog.fd(), .events = POLLIN, .revents = 0};
    ::poll(&state, 1, 100);
  }
  auto client = server.connect();
  client.go(TestServer::export_name);
  for (auto index = 0U; index < 20; ++index) {
    const auto data = pattern(65536, index);
    REQUIRE(client.call(Command::write, index * 65536, data.size(), 0, data).error == 0);
    REQUIRE((client.call(Command::read, index * 65536, data.size()).data == data));
  }
}

TEST_CASE("clients that have stopped in the middle of a payload do not starve the next") {
  auto server = TestServer(
      {.memory = memory_min, .connections_max = 1000, .stall_deadline = std::chrono::seconds(1)});
  auto hogs = std::vector<Client>{};
  for (auto index = 0; index < 200; ++index) {
    auto& hog = hogs.emplace_back(server.connect());
    hog.go(TestServer::export_name);
    auto bytes = Client::encode_request(Style::simple, Command::write, 1, 0, 1U << 20, 0);
    bytes.resize(bytes.size() + 1000);
    hog.send(bytes);
  }
  auto client = server.connect();
  client.go(TestServer::export_name);
  const auto data = pattern(65536, 1);
  REQUIRE(client.call(Command::write, 0, data.size(), 0, data).error == 0);
  REQUIRE((client.call(Command::read, 0, data.size()).data == data));
}

TEST_CASE("clients that send a byte now and then do not starve the next") {
  auto server = TestServer(
      {.memory = memory_min, .connections_max = 1000, .stall_deadline = std::chrono::seconds(1)});
  auto hogs = std::vector<Client>{};
  for (auto index = 0; index < 250; ++index) {
    auto& hog = hogs.emplace_back(server.connect());
    hog.go(TestServer::export_name);
    auto bytes = Client::encode_request(Style::simple, Command::write, 1, 0, 1U << 20, 0);
    bytes.resize(bytes.size() + 1000);
    hog.send(bytes);
  }
  auto served = std::atomic<bool>{false};
  auto trickle = std::thread([&] {
    const auto byte = std::byte{0};
    while (!served) {
      for (const auto& hog : hogs) ::send(hog.fd(), &byte, 1, MSG_DONTWAIT | MSG_NOSIGNAL);
      ::poll(nullptr, 0, 100);  // the pace of these clients
    }
  });
  auto client = server.connect();
  client.go(TestServer::export_name);
  const auto data = pattern(65536, 1);
  const auto written = client.call(Command::write, 0, data.size(), 0, data).error;
  const auto read = client.call(Command::read, 0, data.size()).data;
  served = true;
  trickle.join();
  CHECK(written == 0);
  CHECK((read == data));
}

TEST_CASE("clients that read slowly leave memory to others and are not ended for it") {
  auto server = TestServer({.memory = memory_min, .stall_deadline = std::chrono::seconds(1)});
  constexpr auto count = 14U;
  constexpr auto length = std::size_t{1} << 20;
  auto readers = std::vector<Client>{};
  for (auto index = 0U; index < count; ++index) {
    auto& reader = readers.emplace_back(server.connect());
    reader.go(TestServer::export_name);
    for (auto cookie = 0U; cookie < 4; ++cookie) reader.request(Command::read, cookie, 0, length);
  }
  auto client = server.connect();
  client.go(TestServer::export_name);
  auto ended = std::atomic<bool>{false};
  auto slowly = std::thread([&] {
    auto room = Bytes(16U << 10);
    for (auto round = 0; round < 25 && !ended; ++round) {
      for (const auto& reader : readers)
        ended = ::recv(reader.fd(), room.data(), room.size(), MSG_DONTWAIT) == 0 || ended;
      ::poll(nullptr, 0, 100);  // 160 KiB/s each
    }
  });
  const auto data = pattern(65536, 1);
  for (auto round = 0U; round < 20; ++round) {
    CHECK(client.call(Command::write, 0, data.size(), 0, data).error == 0);
    CHECK((client.call(Command::read, 0, data.size()).data == data));
  }
  slowly.join();
  CHECK_FALSE(ended);
}
