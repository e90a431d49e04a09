#include "engine/buffer_pool.h"

#include <sys/mman.h>
#include <unistd.h>

#include <algorithm>
#include <catch2/catch.hpp>
#include <cstdint>
#include <cstring>
#include <random>
#include <set>
#include <utility>
#include <vector>

#if defined(__SANITIZE_ADDRESS__)
#include <sanitizer/asan_interface.h>
#endif

using namespace engine;

namespace {

using Buffers = std::vector<BufferPool::Buffer>;

std::size_t resident_bytes(const Buffers& buffers) {
  const auto page = static_cast<std::size_t>(::sysconf(_SC_PAGESIZE));
  std::size_t resident = 0;
  for (const auto& buffer : buffers) {
    std::vector<unsigned char> pages((buffer.size() + page - 1) / page);
    REQUIRE(::mincore(buffer.memory(), buffer.size(), pages.data()) == 0);
    for (const auto state : pages) resident += (state & 1) * page;
  }
  return resident;
}

}  // namespace

TEST_CASE("a buffer is aligned, writable and of the class that holds what was wanted") {
  BufferPool pool(8 << 20);
  for (const auto& [wanted, size] : {std::pair<std::size_t, std::size_t>{1, 4096},
                                     {4096, 4096},
                                     {4097, 8192},
                                     {60'000, 65536},
                                     {65536, 65536},
                                     {65537, 131072},
                                     {buffer_size_max, buffer_size_max}}) {
    CAPTURE(wanted);
    auto buffer = pool.take(wanted, 1, 0);
    REQUIRE(buffer);
    CHECK(buffer.size() == size);
    CHECK(reinterpret_cast<std::uintptr_t>(buffer.memory()) % buffer_alignment == 0);
    std::memset(buffer.memory(), 0x5a, buffer.size());
    CHECK(pool.in_use() == size);
    CHECK(pool.free() == pool.budget() - size);
  }
  CHECK(pool.in_use() == 0);
}

TEST_CASE("buffers in use never overlap") {
  BufferPool pool(4 << 20);
  Buffers buffers;
  std::mt19937_64 random(3);
  for (int round = 0; round < 20'000; ++round) {
    if (random() % 2 == 0 || buffers.empty()) {
      auto buffer = pool.take(std::size_t{1} << (random() % 21), 1, 0);
      if (!buffer) continue;
      // The stamps at both ends would be damaged by a neighbour that overlaps.
      const auto stamp = reinterpret_cast<std::uintptr_t>(buffer.memory()) ^ buffer.size();
      std::memcpy(buffer.memory(), &stamp, sizeof(stamp));
      std::memcpy(buffer.memory() + buffer.size() - sizeof(stamp), &stamp, sizeof(stamp));
      buffers.push_back(std::move(buffer));
    } else {
      const std::size_t index = random() % buffers.size();
      std::swap(buffers[index], buffers.back());
      const auto& buffer = buffers.back();
      const auto stamp = reinterpret_cast<std::uintptr_t>(buffer.memory()) ^ buffer.size();
      REQUIRE(std::memcmp(buffer.memory(), &stamp, sizeof(stamp)) == 0);
      REQUIRE(std::memcmp(buffer.memory() + buffer.size() - sizeof(stamp), &stamp, sizeof(stamp)) ==
              0);
      buffers.pop_back();
    }
    std::size_t in_use = 0;
    for (const auto& buffer : buffers) in_use += buffer.size();
    REQUIRE(pool.in_use() == in_use);
    REQUIRE(in_use <= pool.budget());
  }
}

TEST_CASE("the whole budget can be had in any class, one after the other") {
  constexpr std::size_t budget = 3 << 20;
  BufferPool pool(budget);
  for (const std::size_t size : {std::size_t{4096}, buffer_size_max, std::size_t{65536},
                                 std::size_t{8192}, buffer_size_max, std::size_t{4096}}) {
    CAPTURE(size);
    Buffers buffers;
    while (auto buffer = pool.take(size, size, 0)) {
      std::memset(buffer.memory(), 1, buffer.size());
      buffers.push_back(std::move(buffer));
    }
    CHECK(buffers.size() == budget / size);
    CHECK(pool.free() == 0);
    CHECK_FALSE(pool.take(1, 1, 0));
  }
  CHECK(pool.free() == budget);
}

TEST_CASE("a budget that is no multiple of the classes is used as far as they fit") {
  BufferPool pool(buffer_size_max + 3 * 4096 + 100);
  auto large = pool.take(buffer_size_max, 1, 0);
  REQUIRE(large.size() == buffer_size_max);
  auto smaller = pool.take(buffer_size_max, 1, 0);
  CHECK(smaller.size() == 8192);
  auto least = pool.take(buffer_size_max, 1, 0);
  CHECK(least.size() == 4096);
  CHECK_FALSE(pool.take(1, 1, 0));
}

TEST_CASE("what does not fit comes smaller, but not below the least") {
  BufferPool pool(2 << 20);
  auto first = pool.take(buffer_size_max, 1, 0);
  auto second = pool.take(buffer_size_max / 2, 1, 0);
  auto third = pool.take(buffer_size_max, 1, 0);
  CHECK(third.size() == buffer_size_max / 2);
  second.reset();
  CHECK_FALSE(pool.take(buffer_size_max, buffer_size_max, 0));
  CHECK(pool.take(buffer_size_max, buffer_size_max / 2, 0).size() == buffer_size_max / 2);
}

TEST_CASE("who holds much must leave as much free") {
  constexpr std::size_t budget = 8 << 20;
  BufferPool pool(budget);
  const auto take_all = [&](Buffers& buffers) {
    std::size_t held = 0;
    while (auto buffer = pool.take(buffer_size_max, 4096, held)) {
      held += buffer.size();
      buffers.push_back(std::move(buffer));
    }
    return held;
  };
  Buffers greedy, second, third;
  CHECK(take_all(greedy) == budget / 2);
  CHECK(take_all(second) == budget / 4);
  CHECK(take_all(third) == budget / 8);
  CHECK(pool.take(buffer_size_max, 4096, 0).size() == buffer_size_max);
}

TEST_CASE("a buffer given back is used again, and its memory with it") {
  BufferPool pool(2 << 20);
  std::byte* const memory = pool.take(4096, 1, 0).memory();
  CHECK(pool.take(4096, 1, 0).memory() == memory);
}

TEST_CASE("memory of one class is handed back before another takes its place") {
  constexpr std::size_t budget = 2 << 20;
  BufferPool pool(budget);
  Buffers small;
  while (auto buffer = pool.take(4096, 4096, 0)) {
    std::memset(buffer.memory(), 1, buffer.size());
    small.push_back(std::move(buffer));
  }
  REQUIRE(resident_bytes(small) == budget);
  std::vector<std::byte*> addresses;
  for (const auto& buffer : small) addresses.push_back(buffer.memory());
  small.clear();
  {
    Buffers large;
    while (auto buffer = pool.take(buffer_size_max, buffer_size_max, 0)) {
      std::memset(buffer.memory(), 2, buffer.size());
      large.push_back(std::move(buffer));
    }
    REQUIRE(large.size() == 2);
    std::size_t resident = resident_bytes(large);
    for (std::byte* const address : addresses) {
      unsigned char state = 0;
      REQUIRE(::mincore(address, 4096, &state) == 0);
      resident += (state & 1) * std::size_t{4096};
    }
    CHECK(resident <= budget);
  }
}

TEST_CASE("a moved buffer is given back once") {
  BufferPool pool(2 << 20);
  auto one = pool.take(4096, 1, 0);
  BufferPool::Buffer two = std::move(one);
  CHECK(pool.in_use() == 4096);
  two = pool.take(8192, 1, 0);
  CHECK(pool.in_use() == 8192);
  two.reset();
  two.reset();
  CHECK(pool.in_use() == 0);
}

#if defined(__SANITIZE_ADDRESS__)
TEST_CASE("the address sanitizer sees the use of a buffer that was given back") {
  BufferPool pool(2 << 20);
  auto buffer = pool.take(8192, 1, 0);
  std::byte* const memory = buffer.memory();
  CHECK(::__asan_region_is_poisoned(memory, 8192) == nullptr);
  CHECK(::__asan_address_is_poisoned(memory + 8192) == 1);
  buffer.reset();
  CHECK(::__asan_address_is_poisoned(memory) == 1);
  CHECK(::__asan_address_is_poisoned(memory + 8191) == 1);
}
#endif

TEST_CASE("a resident pool has the memory of every class from the start and keeps it") {
  BufferPool pool(2 << 20, true);
  for (std::size_t size = buffer_size_min; size <= buffer_size_max; size *= 2) {
    CAPTURE(size);
    Buffers buffers;
    while (pool.free() >= size) {
      buffers.push_back(pool.take(size, size, 0));
      REQUIRE(buffers.back());
    }
    CHECK(buffers.size() == pool.budget() / size);
    CHECK(resident_bytes(buffers) == pool.budget());
    CHECK_FALSE(pool.take(buffer_size_min, buffer_size_min, 0));
  }
}
