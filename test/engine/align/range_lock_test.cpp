#include "engine/align/range_lock.h"

#include <poll.h>

#include <array>
#include <atomic>
#include <catch2/catch.hpp>
#include <cstddef>
#include <deque>
#include <random>
#include <thread>
#include <vector>

#include "engine/event_fd.h"
#include "test/engine/test_io.h"

using namespace engine;
using test::is_readable;

namespace {

struct Claim final : RangeLock::Claim {};

struct Holder {
  explicit Holder(RangeLock& lock) : participant(lock, wakeup.get()) {}

  EventFd wakeup;
  RangeLock::Participant participant;
};

}  // namespace

TEST_CASE("claims that do not overlap are held side by side") {
  RangeLock lock;
  Holder holder(lock);
  std::array<Claim, 3> claims;
  CHECK(holder.participant.claim(claims[0], 0, 4096, true));
  CHECK(holder.participant.claim(claims[1], 4096, 8192, true));
  CHECK(holder.participant.claim(claims[2], 1 << 20, 1 << 21, false));
  for (auto& claim : claims) holder.participant.release(claim);
  CHECK(holder.participant.next_granted() == nullptr);
}

TEST_CASE("overlapping claims are granted in the order in which they came") {
  RangeLock lock;
  Holder holder(lock);
  std::array<Claim, 4> claims;
  REQUIRE(holder.participant.claim(claims[0], 0, 8192, true));
  CHECK_FALSE(holder.participant.claim(claims[1], 4096, 12288, true));
  // Overlaps with claims[1] alone, which is not held yet: it still has to wait for it.
  CHECK_FALSE(holder.participant.claim(claims[2], 8192, 16384, false));
  CHECK_FALSE(holder.participant.claim(claims[3], 0, 4096, false));
  CHECK(holder.participant.next_granted() == nullptr);

  holder.participant.release(claims[0]);
  CHECK(holder.participant.next_granted() == &claims[1]);
  CHECK(holder.participant.next_granted() == &claims[3]);
  CHECK(holder.participant.next_granted() == nullptr);
  holder.participant.release(claims[1]);
  CHECK(holder.participant.next_granted() == &claims[2]);
  holder.participant.release(claims[2]);
  holder.participant.release(claims[3]);
}

TEST_CASE("a claim of the whole device waits for all and all later ones for it") {
  RangeLock lock;
  Holder holder(lock);
  constexpr std::uint64_t whole = std::uint64_t{1} << 63;
  std::array<Claim, 4> claims;
  REQUIRE(holder.participant.claim(claims[0], 0, 4096, true));
  REQUIRE(holder.participant.claim(claims[1], whole - 4096, whole, true));
  CHECK_FALSE(holder.participant.claim(claims[2], 0, whole, true));
  CHECK_FALSE(holder.participant.claim(claims[3], 65536, 69632, true));
  holder.participant.release(claims[1]);
  CHECK(holder.participant.next_granted() == nullptr);
  holder.participant.release(claims[0]);
  CHECK(holder.participant.next_granted() == &claims[2]);
  CHECK(holder.participant.next_granted() == nullptr);
  holder.participant.release(claims[2]);
  CHECK(holder.participant.next_granted() == &claims[3]);
  holder.participant.release(claims[3]);
}

TEST_CASE("a grant to another participant wakes it, a grant to oneself does not") {
  RangeLock lock;
  Holder one(lock);
  Holder other(lock);
  std::array<Claim, 3> claims;
  REQUIRE(one.participant.claim(claims[0], 0, 4096, true));
  CHECK_FALSE(one.participant.claim(claims[1], 0, 4096, true));
  CHECK_FALSE(other.participant.claim(claims[2], 0, 4096, true));
  one.participant.release(claims[0]);
  CHECK_FALSE(is_readable(one.wakeup.get()));
  CHECK(one.participant.next_granted() == &claims[1]);
  CHECK_FALSE(is_readable(other.wakeup.get()));
  one.participant.release(claims[1]);
  CHECK(is_readable(other.wakeup.get()));
  CHECK(other.participant.next_granted() == &claims[2]);
  other.participant.release(claims[2]);
}

TEST_CASE("aligned writes only count themselves until the first sub-block write") {
  RangeLock lock;
  Holder one(lock);
  Holder other(lock);
  REQUIRE(one.participant.begin_counted());
  REQUIRE(one.participant.begin_counted());
  one.participant.end_counted();
  // An aligned claim alone changes nothing.
  Claim aligned;
  CHECK(other.participant.claim(aligned, 0, 4096, false));
  other.participant.release(aligned);
  CHECK(other.participant.begin_counted());

  Claim sub_block;
  CHECK_FALSE(other.participant.claim(sub_block, 8192, 12288, true));
  CHECK_FALSE(one.participant.begin_counted());
  Claim later;
  CHECK_FALSE(one.participant.claim(later, 1 << 20, 1 << 21, false));
  one.participant.end_counted();
  CHECK(other.participant.next_granted() == nullptr);
  other.participant.end_counted();
  CHECK(other.participant.next_granted() == &sub_block);
  CHECK(is_readable(one.wakeup.get()));
  CHECK(one.participant.next_granted() == &later);
  other.participant.release(sub_block);
  one.participant.release(later);
  CHECK_FALSE(one.participant.begin_counted());  // for good
}

TEST_CASE("the first sub-block write starts at once when no write is in flight") {
  RangeLock lock;
  Holder one(lock);
  Holder other(lock);
  REQUIRE(one.participant.begin_counted());
  one.participant.end_counted();
  Claim claim;
  CHECK(other.participant.claim(claim, 0, 4096, true));
  other.participant.release(claim);
}

namespace {

// The lock protects a plain counter for each block, which the thread sanitizer watches, too.
struct Blocks {
  static constexpr std::size_t count = 8;
  std::array<std::uint64_t, count> writes{};
};

// Whether the block's write, counted or claimed, happened.
void write_blocks(RangeLock& lock, Blocks& blocks, std::array<std::uint64_t, Blocks::count>& done,
                  std::uint64_t seed, std::uint64_t aligned_rounds, std::size_t own_block) {
  Holder holder(lock);
  std::mt19937_64 random(seed);
  for (std::uint64_t round = 0; round < 4'000; ++round) {
    // At first whole blocks of one's own, which are safe without a claim, as a client's would be.
    const bool aligned = round < aligned_rounds;
    const std::size_t first = aligned ? own_block : random() % Blocks::count;
    const std::size_t last = aligned ? first : std::min(first + random() % 3, Blocks::count - 1);
    if (aligned && holder.participant.begin_counted()) {
      ++blocks.writes[first];
      ++done[first];
      holder.participant.end_counted();
      continue;
    }
    Claim claim;
    if (!holder.participant.claim(claim, first * 4096, (last + 1) * 4096, !aligned)) {
      while (holder.participant.next_granted() != &claim) {
        pollfd poll_fd{holder.wakeup.get(), POLLIN, 0};
        if (::poll(&poll_fd, 1, 10'000) != 1) std::abort();  // a lost wake-up
        holder.wakeup.clear();
      }
    }
    for (std::size_t block = first; block <= last; ++block) {
      ++blocks.writes[block];
      ++done[block];
    }
    holder.participant.release(claim);
  }
}

}  // namespace

TEST_CASE("threads that begin aligned and turn to sub-blocks never meet in a block") {
  constexpr std::size_t thread_count = 4;
  for (std::uint64_t seed = 0; seed < 5; ++seed) {
    RangeLock lock;
    Blocks blocks;
    std::array<std::array<std::uint64_t, Blocks::count>, thread_count> done{};
    std::vector<std::thread> threads;
    for (std::size_t index = 0; index < thread_count; ++index)
      threads.emplace_back([&, index] {
        write_blocks(lock, blocks, done[index], seed * thread_count + index, 500 * index, index);
      });
    for (auto& thread : threads) thread.join();
    for (std::size_t block = 0; block < Blocks::count; ++block) {
      std::uint64_t expected = 0;
      for (const auto& by_thread : done) expected += by_thread[block];
      CHECK(blocks.writes[block] == expected);
    }
  }
}
