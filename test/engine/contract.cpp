#include "test/engine/contract.h"

#include <poll.h>

#include <algorithm>
#include <array>
#include <catch2/catch.hpp>
#include <cerrno>
#include <cstddef>
#include <deque>
#include <random>
#include <string>
#include <thread>
#include <vector>

#include "engine/buffer_pool.h"
#include "test/engine/test_io.h"

using namespace engine;

namespace test {
namespace {

std::uint64_t up(std::uint64_t size, std::uint64_t unit) { return (size + unit - 1) / unit * unit; }

// A device of the wanted size, or the next that can be made, with a queue and a copy of what it
// should hold.
class Fixture {
 public:
  Fixture(const Contract& contract, std::uint64_t size, std::size_t depth_max = 16)
      : subject_(contract.make(up(size, contract.size_unit))),
        queue_(subject_.device->make_queue(depth_max)),
        block_size_(subject_.device->geometry().block_size),
        expected_(subject_.device->size()) {
    REQUIRE(subject_.device->size() == up(size, contract.size_unit));
    if (subject_.backing_size) backing_size_ = subject_.backing_size();
  }

  BlockDevice& device() { return *subject_.device; }
  IoQueue& queue() { return *queue_; }
  std::size_t block_size() const { return block_size_; }
  std::uint64_t size() const { return expected_.size(); }
  Bytes& expected() { return expected_; }

  Bytes expected(std::uint64_t offset, std::uint64_t length) const {
    const auto begin = expected_.begin() + static_cast<std::ptrdiff_t>(offset);
    return {begin, begin + static_cast<std::ptrdiff_t>(length)};
  }
  void expect(std::uint64_t offset, const Bytes& bytes) {
    std::copy(bytes.begin(), bytes.end(), expected_.begin() + static_cast<std::ptrdiff_t>(offset));
  }
  void expect_zeroes(std::uint64_t offset, std::uint64_t length) { expect(offset, Bytes(length)); }

  void write(std::uint64_t offset, std::uint64_t length, bool fua = false) {
    const Bytes bytes = pattern(length, ++seed_);
    REQUIRE(write_bytes(*queue_, offset, bytes, block_size_, fua) ==
            static_cast<std::int64_t>(length));
    expect(offset, bytes);
  }
  bool reads_as_expected(std::uint64_t offset, std::uint64_t length) {
    return read_bytes(*queue_, offset, length, block_size_) == expected(offset, length);
  }
  // The whole device, in pieces that a queue takes.
  bool is_as_expected() {
    for (std::uint64_t offset = 0; offset < size(); offset += buffer_size_max) {
      const auto length = std::min<std::uint64_t>(buffer_size_max, size() - offset);
      if (!reads_as_expected(offset, length)) return false;
    }
    return true;
  }
  bool has_not_grown() {
    return device().size() == size() &&
           (!subject_.backing_size || subject_.backing_size() == backing_size_);
  }

 private:
  ContractSubject subject_;
  std::unique_ptr<IoQueue> queue_;
  std::size_t block_size_;
  Bytes expected_;
  std::uint64_t backing_size_ = 0;
  std::uint64_t seed_ = 0;
};

struct Range {
  std::uint64_t offset;
  std::uint64_t length;
};

// One of each kind of position relative to blocks of `unit` bytes and to the end of the device.
std::vector<Range> ranges_around(std::uint64_t unit, std::uint64_t size) {
  const std::vector<std::uint64_t> offsets = {0,
                                              1,
                                              unit - 1,
                                              unit,
                                              unit + 1,
                                              2 * unit,
                                              2 * unit + unit / 2,
                                              size - 2 * unit,
                                              size - unit,
                                              size - 1};
  const std::vector<std::uint64_t> lengths = {1,        3,        unit / 2,     unit - 1,    unit,
                                              unit + 1, 2 * unit, 2 * unit + 1, 3 * unit - 1};
  std::vector<Range> ranges;
  for (const auto offset : offsets) {
    for (const auto length : lengths) {
      if (length > 0 && offset < size && length <= size - offset)
        ranges.push_back({offset, length});
    }
    if (offset < size) ranges.push_back({offset, size - offset});  // up to the very end
  }
  return ranges;
}

void check_alignment(const Contract& contract) {
  Fixture fixture(contract, 9 * 4096 + 777);
  const auto unit = std::max<std::uint64_t>(fixture.block_size(), 512);
  REQUIRE(fixture.is_as_expected());
  for (const auto [offset, length] : ranges_around(unit, fixture.size())) {
    CAPTURE(offset, length);
    REQUIRE(fixture.reads_as_expected(offset, length));
    fixture.write(offset, length);
    REQUIRE(fixture.is_as_expected());
  }
  CHECK(fixture.has_not_grown());
}

void check_largest(const Contract& contract) {
  Fixture fixture(contract, 2 * buffer_size_max + 4096 + 17);
  for (const std::uint64_t offset : {0U, 1U, 511U, 4096U}) {
    CAPTURE(offset);
    fixture.write(offset, buffer_size_max);
    REQUIRE(fixture.is_as_expected());
  }
  fixture.write(fixture.size() - buffer_size_max, buffer_size_max);
  CHECK(fixture.is_as_expected());
  CHECK(fixture.has_not_grown());
}

void check_end(const Contract& contract) {
  for (const std::uint64_t size : {1U, 511U, 512U, 513U, 4095U, 4097U, 8192U + 512U, 12287U}) {
    CAPTURE(size);
    Fixture fixture(contract, size);
    REQUIRE(fixture.is_as_expected());
    for (const std::uint64_t length : {1U, 2U, 511U, 512U, 513U, 4096U, 4097U}) {
      if (length > fixture.size()) continue;
      CAPTURE(length);
      fixture.write(fixture.size() - length, length, length % 2 == 1);
      REQUIRE(fixture.is_as_expected());
    }
    REQUIRE(fixture.has_not_grown());
    TestIo zeroes(Operation::write_zeroes, fixture.size() - 1, 1);
    REQUIRE(run(fixture.queue(), zeroes) == 0);
    fixture.expect_zeroes(fixture.size() - 1, 1);
    TestIo discard(Operation::discard, fixture.size() / 2, fixture.size() - fixture.size() / 2);
    REQUIRE(run(fixture.queue(), discard) == 0);
    const Bytes kept = read_bytes(fixture.queue(), 0, fixture.size(), fixture.block_size());
    REQUIRE(kept.size() == fixture.size());
    REQUIRE(std::equal(kept.begin(), kept.begin() + static_cast<std::ptrdiff_t>(size / 2),
                       fixture.expected().begin()));
    REQUIRE(fixture.has_not_grown());
  }
}

void check_depth(const Contract& contract) {
  constexpr std::size_t depth = 4;
  constexpr std::size_t count = 100;
  Fixture fixture(contract, count * 1536, depth);
  std::deque<IoMemory> memories;
  std::deque<TestIo> ios;
  for (std::size_t index = 0; index < count; ++index) {
    const std::uint64_t offset = index * 1536;
    const Bytes bytes = pattern(1536, index);
    memories.emplace_back(offset, bytes.size(), fixture.block_size());
    std::copy(bytes.begin(), bytes.end(), memories.back().bytes());
    ios.emplace_back(Operation::write, offset, bytes.size(), memories.back().bytes());
    fixture.expect(offset, bytes);
    fixture.queue().submit(ios.back());
    REQUIRE(fixture.queue().in_flight() == index + 1);
  }
  const auto is_complete = [](const TestIo& io) { return io.is_complete(); };
  REQUIRE(drive(fixture.queue(), [&] { return std::all_of(ios.begin(), ios.end(), is_complete); }));
  CHECK(fixture.queue().in_flight() == 0);
  for (const TestIo& io : ios) {
    REQUIRE(io.completions() == 1);
    REQUIRE(io.result() == 1536);
  }
  CHECK(fixture.is_as_expected());
}

void check_harvest(const Contract& contract) {
  Fixture fixture(contract, 64 * 1024);
  const IoMemory memory(4096, 512, fixture.block_size());
  IoQueue& queue = fixture.queue();
  std::array<Extent, 2> extents;
  for (const auto operation :
       {Operation::read, Operation::write, Operation::flush, Operation::discard,
        Operation::write_zeroes, Operation::cache, Operation::block_status}) {
    CAPTURE(static_cast<int>(operation));
    TestIo io(operation, operation == Operation::flush ? 0 : 4096,
              operation == Operation::flush ? 0 : 512, memory.bytes());
    io.extents = extents;
    queue.submit(io);
    CHECK_FALSE(io.is_complete());
    queue.flush();
    CHECK_FALSE(io.is_complete());
    std::size_t harvested = 0;
    while (!io.is_complete()) {
      // Without a flush() in between: harvest() drives what it has begun.
      pollfd poll_fd{queue.wakeup_fd(), POLLIN, 0};
      REQUIRE(::poll(&poll_fd, 1, 10'000) == 1);
      queue.clear_wakeup();
      harvested += queue.harvest();
    }
    CHECK(harvested == 1);
    CHECK(io.completions() == 1);
    CHECK(io.result() >= 0);
    CHECK(queue.in_flight() == 0);
  }
  queue.clear_wakeup();
  CHECK(queue.harvest() == 0);
  queue.clear_wakeup();
  CHECK_FALSE(is_readable(queue.wakeup_fd()));
}

void check_resubmission(const Contract& contract) {
  Fixture fixture(contract, 64 * 1024);
  IoQueue& queue = fixture.queue();
  const IoMemory memory(512, 512, fixture.block_size());
  TestIo io(Operation::read, 512, 512, memory.bytes());
  io.on_complete = [&] {
    if (io.completions() < 50) queue.submit(io);
  };
  queue.submit(io);
  REQUIRE(drive(queue, [&] { return io.completions() == 50; }));
  CHECK(io.result() == 512);
  CHECK(queue.in_flight() == 0);
}

void check_durability(const Contract& contract) {
  Fixture fixture(contract, 64 * 1024 + 100);
  auto other = fixture.device().make_queue(4);
  for (const std::uint64_t offset : {0U, 100U, 4096U, 65000U}) {
    CAPTURE(offset);
    fixture.write(offset, 500, true);
    CHECK(read_bytes(*other, offset, 500, fixture.block_size()) == fixture.expected(offset, 500));
  }
  fixture.write(8192, 4096);
  TestIo flush(Operation::flush, 0, 0);
  CHECK(run(*other, flush) == 0);
  CHECK(fixture.device().sync() == 0);
  TestIo cache(Operation::cache, 77, 60'000);
  CHECK(run(fixture.queue(), cache) == 0);
  CHECK(fixture.is_as_expected());
}

// Discarded bytes are the old ones or zeroes; all others are as they were.
void check_discard(const Contract& contract) {
  Fixture fixture(contract, 64 * 1024 + 300);
  for (const auto [offset, length] : {Range{0, 4096}, Range{5000, 20'000}, Range{100, 200},
                                      Range{16384, 32768}, Range{30'000, 35'000}}) {
    CAPTURE(offset, length);
    fixture.write(0, fixture.size());
    TestIo discard(Operation::discard, offset, length);
    discard.fua = offset == 0;
    REQUIRE(run(fixture.queue(), discard) == 0);
    Bytes found = read_bytes(fixture.queue(), 0, fixture.size(), fixture.block_size());
    REQUIRE(found.size() == fixture.size());
    std::uint64_t strange = 0;
    for (std::uint64_t at = offset; at < offset + length; ++at)
      if (found[at] != std::byte{0} && found[at] != fixture.expected()[at]) ++strange;
    CHECK(strange == 0);
    fixture.expect(offset, {found.begin() + static_cast<std::ptrdiff_t>(offset),
                            found.begin() + static_cast<std::ptrdiff_t>(offset + length)});
    CHECK((found == fixture.expected()));  // not to be printed
  }
  CHECK(fixture.has_not_grown());
}

void check_zeroes(const Contract& contract) {
  Fixture fixture(contract, 96 * 1024 + 300);
  const std::uint64_t size = fixture.size();
  const std::vector<Range> ranges = {
      {0, 4096},         {4096, 65536},       {1, 1},         {4095, 2},       {511, 4097},
      {8192, 100},       {8100, 100},         {5000, 40'000}, {12288, 50'001}, {size - 1, 1},
      {size - 300, 300}, {size - 5000, 5000}, {0, size},      {7, size - 7},   {4096, size - 4096}};
  for (unsigned flags = 0; flags < 8; ++flags) {
    for (const auto [offset, length] : ranges) {
      CAPTURE(flags, offset, length);
      fixture.write(0, size);
      TestIo zeroes(Operation::write_zeroes, offset, length);
      zeroes.fua = (flags & 1) != 0;
      zeroes.no_hole = (flags & 2) != 0;
      zeroes.fast_zero = (flags & 4) != 0;
      const auto result = run(fixture.queue(), zeroes);
      if (!(zeroes.fast_zero && result == -EOPNOTSUPP)) {
        REQUIRE(result == 0);
        fixture.expect_zeroes(offset, length);
      }
      REQUIRE(fixture.is_as_expected());
    }
  }
  CHECK(fixture.has_not_grown());
}

void check_large_zeroes(const Contract& contract) {
  Fixture fixture(contract, 5 * buffer_size_max + 1234);
  for (std::uint64_t offset = 0; offset < fixture.size(); offset += buffer_size_max)
    fixture.write(offset, std::min<std::uint64_t>(buffer_size_max, fixture.size() - offset));
  const std::uint64_t length = fixture.size() - 7777 - 100;
  TestIo zeroes(Operation::write_zeroes, 7777, length);
  REQUIRE(run(fixture.queue(), zeroes) == 0);
  fixture.expect_zeroes(7777, length);
  CHECK(fixture.is_as_expected());
}

// Asks for the status of [offset, size) until the end is reached, and checks what is said.
void check_status_from(Fixture& fixture, std::uint64_t offset, std::size_t extents_max,
                       bool one_extent) {
  while (offset < fixture.size()) {
    std::vector<Extent> extents(extents_max);
    TestIo status(Operation::block_status, offset, fixture.size() - offset);
    status.extents = extents;
    status.one_extent = one_extent;
    const auto count = run(fixture.queue(), status);
    REQUIRE(count.has_value());
    REQUIRE(*count >= 1);
    REQUIRE(*count <= static_cast<std::int64_t>(one_extent ? 1 : extents_max));
    for (std::int64_t index = 0; index < *count; ++index) {
      const Extent& extent = extents[static_cast<std::size_t>(index)];
      CAPTURE(offset, extent.length, extent.zero, extent.hole);
      REQUIRE(extent.length > 0);
      REQUIRE(extent.length <= fixture.size() - offset);
      const Bytes bytes = fixture.expected(offset, extent.length);
      if (extent.zero) REQUIRE((bytes == Bytes(bytes.size())));
      offset += extent.length;
    }
  }
}

void check_status(const Contract& contract) {
  Fixture fixture(contract, 256 * 1024 + 300);
  const bool reports = fixture.device().geometry().can_report_extents;
  const auto first_extent = [&] {
    std::array<Extent, 8> extents;
    TestIo status(Operation::block_status, 0, fixture.size());
    status.extents = extents;
    REQUIRE(run(fixture.queue(), status).value_or(0) >= 1);
    return extents[0];
  };
  const Extent fresh = first_extent();
  if (!reports) CHECK_FALSE(fresh.hole);
  fixture.write(65536, 8192);
  fixture.write(150'001, 10);
  fixture.write(fixture.size() - 1, 1);
  for (const std::uint64_t offset : {0U, 1U, 65535U, 65536U, 70'001U, 150'000U, 262'144U}) {
    CAPTURE(offset);
    check_status_from(fixture, offset, 16, false);
    check_status_from(fixture, offset, 1, false);
    check_status_from(fixture, offset, 16, true);
  }
  fixture.write(0, 512);
  const Extent written = first_extent();
  CHECK_FALSE(written.zero);
  CHECK_FALSE(written.hole);
}

// Each thread writes its own slots of every block, over and over; none may be lost.
void check_shared_blocks(const Contract& contract) {
  constexpr std::int64_t slot_length = 512;
  constexpr std::size_t slot = slot_length;
  constexpr std::size_t slot_count = 32;
  constexpr std::size_t rounds = 20;
  Fixture fixture(contract, slot * slot_count);
  std::array<std::size_t, 2> failures{};
  const auto writer = [&](std::size_t first) {
    auto queue = fixture.device().make_queue(8);
    for (std::size_t round = 0; round < rounds; ++round) {
      std::deque<IoMemory> memories;
      std::deque<TestIo> ios;
      for (std::size_t at = first; at < slot_count; at += 2) {
        const Bytes bytes = pattern(slot, round * slot_count + at);
        memories.emplace_back(at * slot, slot, fixture.block_size());
        std::copy(bytes.begin(), bytes.end(), memories.back().bytes());
        ios.emplace_back(Operation::write, at * slot, slot, memories.back().bytes());
        queue->submit(ios.back());
      }
      const auto is_written = [](const TestIo& io) { return io.result() == slot_length; };
      if (!drive(*queue, [&] { return queue->in_flight() == 0; }) ||
          !std::all_of(ios.begin(), ios.end(), is_written))
        ++failures[first];
      for (std::size_t at = first; at < slot_count; at += 2) {
        if (read_bytes(*queue, at * slot, slot, fixture.block_size()) !=
            pattern(slot, round * slot_count + at))
          ++failures[first];
      }
    }
  };
  std::thread odd(writer, 1);
  writer(0);
  odd.join();
  CHECK(failures[0] == 0);
  CHECK(failures[1] == 0);
  for (std::size_t at = 0; at < slot_count; ++at)
    fixture.expect(at * slot, pattern(slot, (rounds - 1) * slot_count + at));
  CHECK(fixture.is_as_expected());
}

// Batches of operations on ranges that do not overlap but share blocks.
void check_random_batches(const Contract& contract) {
  Fixture fixture(contract, 60'000);
  std::mt19937_64 random(20240607);
  for (int round = 0; round < 60; ++round) {
    CAPTURE(round);
    std::deque<IoMemory> memories;
    std::deque<TestIo> ios;
    std::vector<Bytes> wanted_reads;
    for (std::uint64_t at = random() % 700; at < fixture.size();) {
      const std::uint64_t length = std::min(1 + random() % 7000, fixture.size() - at);
      memories.emplace_back(at, length, fixture.block_size());
      const auto kind = random() % 4;
      const auto operation = kind == 0   ? Operation::read
                             : kind == 1 ? Operation::write_zeroes
                                         : Operation::write;
      ios.emplace_back(operation, at, length, memories.back().bytes());
      wanted_reads.push_back(operation == Operation::read ? fixture.expected(at, length) : Bytes());
      if (operation == Operation::write) {
        const Bytes bytes = pattern(length, random());
        std::copy(bytes.begin(), bytes.end(), memories.back().bytes());
        fixture.expect(at, bytes);
      } else if (operation == Operation::write_zeroes) {
        fixture.expect_zeroes(at, length);
      }
      fixture.queue().submit(ios.back());
      at += length + random() % 700;
    }
    REQUIRE(drive(fixture.queue(), [&] { return fixture.queue().in_flight() == 0; }));
    for (std::size_t index = 0; index < ios.size(); ++index) {
      REQUIRE(ios[index].completions() == 1);
      REQUIRE(ios[index].result() >= 0);
      if (ios[index].operation == Operation::read)
        REQUIRE((memories[index].copy() == wanted_reads[index]));
    }
    REQUIRE(fixture.is_as_expected());
  }
}

}  // namespace

void check_contract(const Contract& contract) {
  CAPTURE(contract.name);
  SECTION("reads and writes of every alignment are exact") { check_alignment(contract); }
  SECTION("the largest reads and writes are exact") { check_largest(contract); }
  SECTION("the end of the device is exact and never moves") { check_end(contract); }
  SECTION("more than the queue depth waits and completes") { check_depth(contract); }
  SECTION("only harvest completes, and the wake-up tells when") { check_harvest(contract); }
  SECTION("a completion may submit again") { check_resubmission(contract); }
  SECTION("what completed is seen and covered by all queues") { check_durability(contract); }
  SECTION("a discard changes nothing outside its range") { check_discard(contract); }
  SECTION("zeroes are exact with all flags") { check_zeroes(contract); }
  SECTION("zeroes may be longer than any buffer") { check_large_zeroes(contract); }
  SECTION("block status never promises too much") { check_status(contract); }
  SECTION("writers of one block in two threads lose nothing") { check_shared_blocks(contract); }
  SECTION("batches that share blocks are exact") { check_random_batches(contract); }
}

}  // namespace test
