// Many clients at once over a device that delays, reorders, fails and tears, compared with a shadow
// copy.
#include <sys/socket.h>

#include <array>
#include <catch2/catch.hpp>
#include <exception>
#include <map>
#include <random>
#include <thread>
#include <vector>

#include "engine/mutex.h"
#include "test/support/test_server.h"

using proto::Command;
using test::Bytes;
using test::Client;
using test::pattern;
using test::Style;
using test::TestServer;

namespace {

constexpr std::size_t region_size = 256U
                                    << 10;  // bytes of the export that one client has for itself
constexpr std::size_t unit = 512;           // bytes; the shadow knows or does not know such units

// One client's knowledge of its region: a byte is certain when the last write to it was
// acknowledged.
class Shadow {
 public:
  void write(std::size_t begin, const Bytes& data) {
    for (auto index = std::size_t{0}; index < data.size(); ++index) {
      bytes_[begin + index] = data[index];
      certain_[begin + index] = true;
    }
  }
  void zero(std::size_t begin, std::size_t length) { write(begin, Bytes(length)); }
  void forget(std::size_t begin, std::size_t length) {
    std::fill_n(certain_.begin() + static_cast<std::ptrdiff_t>(begin), length, false);
  }
  // The first byte of a READ that is not as it must be.
  std::optional<std::size_t> wrong(std::size_t begin, const Bytes& data) const {
    for (auto index = std::size_t{0}; index < data.size(); ++index)
      if (certain_[begin + index] && bytes_[begin + index] != data[index]) return begin + index;
    return std::nullopt;
  }

 private:
  Bytes bytes_ = Bytes(region_size);
  std::vector<bool> certain_ = std::vector<bool>(region_size, true);
};

struct Pending {
  Command command = Command::read;
  std::size_t begin = 0;
  std::size_t length = 0;
  Bytes data;
};

// One client that lives several lives on its own region, several requests in flight, none of them
// overlapping.
class Actor {
 public:
  Actor(TestServer& server, unsigned index)
      : server_(server),
        index_(index),
        base_(std::uint64_t{index} * region_size),
        random_(index + 1) {}

  void run(unsigned lives, unsigned requests) {
    for (auto life = 0U; life < lives; ++life) {
      auto client = server_.connect();
      const auto style = std::array{Style::simple, Style::structured, Style::extended}[life % 3];
      client.go(TestServer::export_name, style);
      live(client, style, requests, life + 1 == lives);
    }
  }

  std::uint64_t errors() const { return errors_; }

 private:
  std::size_t below(std::size_t bound) { return random_() % bound; }

  void live(Client& client, Style style, unsigned requests, bool ends_well) {
    auto pending = std::map<std::uint64_t, Pending>{};
    for (auto cookie = std::uint64_t{0}; cookie < requests; ++cookie) {
      auto next = choose(pending);
      if (next) {
        client.request(next->command, cookie, base_ + next->begin, next->length, 0, next->data);
        pending.emplace(cookie, std::move(*next));
      }
      while (pending.size() > below(16)) take_reply(client, style, pending);
    }
    if (!ends_well) {  // dies with requests in flight: what they wrote is unknown
      for (const auto& [cookie, request] : pending)
        if (request.command != Command::read) shadow_.forget(request.begin, request.length);
      client.close();
      return;
    }
    while (!pending.empty()) take_reply(client, style, pending);
  }

  std::optional<Pending> choose(const std::map<std::uint64_t, Pending>& pending) {
    auto next = Pending{};
    next.begin = below(region_size - 1);
    next.length =
        1 + below(std::min<std::size_t>(region_size - next.begin, below(4) == 0 ? 100'000 : 3000));
    for (const auto& [cookie, other] : pending)
      if (next.begin < other.begin + other.length && other.begin < next.begin + next.length)
        return std::nullopt;
    const auto kind = below(10);
    next.command = kind < 4   ? Command::write
                   : kind < 8 ? Command::read
                   : kind < 9 ? Command::write_zeroes
                              : Command::trim;
    if (next.command == Command::write)
      next.data = pattern(next.length, static_cast<unsigned>(random_()));
    return next;
  }

  void take_reply(Client& client, Style style, std::map<std::uint64_t, Pending>& pending) {
    // The length of a simple reply depends on the request it answers, so peek at its cookie.
    auto header = std::array<std::byte, 20>{};
    ::recv(client.fd(), header.data(), header.size(), MSG_PEEK | MSG_WAITALL);
    auto cookie = std::uint64_t{0};
    for (auto index = 8U; index < 16; ++index)
      cookie = cookie << 8 | static_cast<std::uint64_t>(header[index]);
    const auto found = pending.find(cookie);
    if (found == pending.end()) throw std::runtime_error("a reply to nothing");
    auto& request = found->second;
    // Chunks of different requests may alternate; the pieces of these requests fit one buffer, so
    // they do not.
    const auto result =
        client.result(cookie, request.command, base_ + request.begin, request.length);
    check(request, result.error, result.data, style);
    pending.erase(found);
  }

  void check(const Pending& request, std::uint32_t error, const Bytes& data, Style style) {
    if (error != 0) ++errors_;
    if (request.command == Command::read) {
      if (error != 0) return;
      if (const auto wrong = shadow_.wrong(request.begin, data))
        throw std::runtime_error("client " + std::to_string(index_) + ", style " +
                                 std::to_string(static_cast<int>(style)) + ": wrong byte at " +
                                 std::to_string(base_ + *wrong));
    } else if (error != 0 || request.command == Command::trim) {
      shadow_.forget(request.begin, request.length);
    } else if (request.command == Command::write) {
      shadow_.write(request.begin, request.data);
    } else {
      shadow_.zero(request.begin, request.length);
    }
  }

  TestServer& server_;
  const unsigned index_;
  const std::uint64_t base_;
  std::mt19937 random_;
  Shadow shadow_;
  std::uint64_t errors_ = 0;
};

}  // namespace

TEST_CASE("nothing acknowledged is lost under delays, reordering, errors and client deaths") {
  constexpr auto actors = 6U;
  for (const auto block_size : {512U, 4096U}) {
    for (const auto seed : {1U, 2U}) {
      CAPTURE(block_size, seed);
      auto server = TestServer({.size = actors * region_size,
                                .block_size = block_size,
                                .workers = 2,
                                .memory = 16U << 20,
                                .faults = {.seed = seed,
                                           .delay_percent = 40,
                                           .error_percent = 3,
                                           .torn_percent = 3,
                                           .reorder = true}});
      auto failure = std::exception_ptr{};
      engine::Mutex mutex;
      auto errors = std::uint64_t{0};
      auto threads = std::vector<std::thread>{};
      for (auto index = 0U; index < actors; ++index) {
        threads.emplace_back([&, index] {
          auto actor = Actor(server, index);
          try {
            actor.run(6, 150);
          } catch (...) {
            const engine::MutexLock lock(mutex);
            failure = std::current_exception();
          }
          const engine::MutexLock lock(mutex);
          errors += actor.errors();
        });
      }
      for (auto& thread : threads) thread.join();
      if (failure) std::rethrow_exception(failure);
      CHECK(errors > 0);  // the faults were real
      server.wait_until_idle();
    }
  }
}
