// Several threads, each with a queue of its own, over one device of large blocks. Every thread
// writes places that no other writes, but that lie in blocks with those of others; at the end
// nothing may be missing.
#include <algorithm>
#include <array>
#include <catch2/catch.hpp>
#include <cstddef>
#include <deque>
#include <memory>
#include <random>
#include <thread>
#include <vector>

#include "engine/align/aligning_queue.h"
#include "test/double/faulty_queue.h"
#include "test/double/memory_device.h"
#include "test/engine/test_io.h"

using namespace engine;
using namespace test;

namespace {

constexpr std::size_t block = 4096;
constexpr std::size_t slot = 512;
constexpr std::size_t block_count = 24;
constexpr std::size_t thread_count = 4;
constexpr std::size_t device_size = block_count * block + 200;

// The last third of the blocks belongs to single threads, the others are shared slot by slot.
constexpr bool is_shared(std::size_t index) { return index < block_count * 2 / 3; }

struct Place {
  std::uint64_t offset;
  std::size_t length;
};

// The places that a thread may write: its slots of the shared blocks, its blocks, its piece of the
// tail.
std::vector<Place> places_of(std::size_t thread, bool aligned_only) {
  std::vector<Place> places;
  for (std::size_t index = 0; index < block_count; ++index) {
    if (!is_shared(index)) {
      if (index % thread_count == thread) places.push_back({index * block, block});
      continue;
    }
    if (aligned_only) continue;
    for (std::size_t at = thread; at < block / slot; at += thread_count)
      places.push_back({index * block + at * slot, slot});
  }
  if (!aligned_only) places.push_back({block_count * block + thread * 50, 50});
  return places;
}

struct Writer {
  std::vector<std::byte> expected = std::vector<std::byte>(device_size);
  std::size_t failures = 0;

  // Batches of up to 16 writes; at first only whole blocks, so that the bias of the lock is
  // revoked while writes are in flight.
  void write(MemoryDevice& device, Faults& faults, std::size_t thread, std::uint64_t seed) {
    AligningQueue queue(std::make_unique<FaultyQueue>(device.make_raw_queue(8), block, faults),
                        device.alignment(), device.range_lock(), 6);
    std::mt19937_64 random(seed * thread_count + thread);
    for (int round = 0; round < 150; ++round) {
      auto places = places_of(thread, round < 10 * static_cast<int>(thread));
      std::shuffle(places.begin(), places.end(), random);
      places.resize(std::min<std::size_t>(places.size(), 1 + random() % 16));
      std::deque<IoMemory> memories;
      std::deque<TestIo> ios;
      for (const auto [offset, length] : places) {
        const bool zeroes = random() % 4 == 0;
        const auto bytes = zeroes ? std::vector<std::byte>(length) : pattern(length, random());
        memories.emplace_back(offset, length, block);
        std::copy(bytes.begin(), bytes.end(), memories.back().bytes());
        ios.emplace_back(zeroes ? Operation::write_zeroes : Operation::write, offset, length,
                         memories.back().bytes());
        std::copy(bytes.begin(), bytes.end(),
                  expected.begin() + static_cast<std::ptrdiff_t>(offset));
        queue.submit(ios.back());
      }
      if (!drive(queue, [&] { return queue.in_flight() == 0; })) ++failures;
      for (const TestIo& io : ios) failures += io.completions() != 1 || io.result() < 0;
      const auto [offset, length] = places[random() % places.size()];
      const auto wanted = expected.begin() + static_cast<std::ptrdiff_t>(offset);
      const auto found = read_bytes(queue, offset, length, block);
      failures +=
          found != std::vector<std::byte>(wanted, wanted + static_cast<std::ptrdiff_t>(length));
    }
  }
};

}  // namespace

TEST_CASE("threads that share blocks lose no write") {
  for (std::uint64_t seed = 1; seed <= 4; ++seed) {
    CAPTURE(seed);
    MemoryDevice device({.size = device_size, .block_size = block, .zero_alignment = 2 * block});
    Faults faults({.seed = seed, .delay_percent = 40, .delay_harvests_max = 3, .reorder = true});
    std::array<Writer, thread_count> writers;
    std::vector<std::thread> threads;
    for (std::size_t thread = 0; thread < thread_count; ++thread)
      threads.emplace_back([&, thread] { writers[thread].write(device, faults, thread, seed); });
    for (auto& thread : threads) thread.join();

    auto queue = device.make_queue(4);
    const auto found = read_bytes(*queue, 0, device_size, block);
    REQUIRE(found.size() == device_size);
    for (std::size_t thread = 0; thread < thread_count; ++thread) {
      CAPTURE(thread);
      CHECK(writers[thread].failures == 0);
      std::size_t lost = 0;
      for (const auto [offset, length] : places_of(thread, false))
        lost += !std::equal(found.begin() + static_cast<std::ptrdiff_t>(offset),
                            found.begin() + static_cast<std::ptrdiff_t>(offset + length),
                            writers[thread].expected.begin() + static_cast<std::ptrdiff_t>(offset));
      CHECK(lost == 0);
    }
  }
}
