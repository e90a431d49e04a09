#include "engine/file/aio_queue.h"

#include <fcntl.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <catch2/catch.hpp>
#include <cerrno>
#include <cstdint>
#include <deque>
#include <fstream>
#include <memory>
#include <random>
#include <string>
#include <thread>
#include <vector>

#include "engine/blocking_pool.h"
#include "test/engine/opened_file.h"
#include "test/engine/test_io.h"

using namespace engine;
using namespace test;

namespace {

constexpr std::size_t block = 4096;  // bytes: a multiple of what any file system here asks for
constexpr std::uint64_t mib = 1U << 20;

struct Subject : OpenedQueue<AioQueue> {
  explicit Subject(std::uint64_t size, std::size_t depth_max = 16,
                   HarvestBy harvest_by = default_harvest())
      : OpenedQueue(size, true, disk_folder(), depth_max, harvest_by) {
    REQUIRE(opened.is_direct);
  }
};

// Memory and Io of a transfer of whole blocks.
struct Transfer {
  Transfer(Operation operation, std::uint64_t offset, std::size_t length)
      : memory(offset, length, block), io(operation, offset, length, memory.bytes()) {}

  IoMemory memory;
  TestIo io;
};

}  // namespace

TEST_CASE("more operations than the kernel may hold are all done, by either way of harvesting") {
  const auto harvest_by = GENERATE(HarvestBy::ring, HarvestBy::system_call);
  Subject subject(mib, 4, harvest_by);
  const auto content = pattern(64 * block, 1);
  subject.opened.temporary.write(0, content);
  std::deque<Transfer> reads;
  for (std::size_t i = 0; i < 64; ++i)
    subject.queue.submit(reads.emplace_back(Operation::read, i * block, block).io);
  CHECK(subject.queue.in_flight() == 64);
  REQUIRE(drive(subject.queue, [&] { return subject.queue.in_flight() == 0; }));
  for (std::size_t i = 0; i < 64; ++i) {
    CAPTURE(i);
    CHECK(reads[i].io.completions() == 1);
    CHECK(reads[i].io.result() == static_cast<std::int64_t>(block));
    CHECK(std::equal(reads[i].memory.bytes(), reads[i].memory.bytes() + block,
                     content.begin() + static_cast<std::ptrdiff_t>(i * block)));
  }
}

TEST_CASE("of a small batch that completes while it is submitted the first are answered early") {
  OpenedFile opened(64 * block, true, memory_folder());
  if (!opened.is_direct || default_harvest() != HarvestBy::ring) {
    WARN("skipped: no direct I/O in memory here, or no look at the ring");
    return;
  }
  BlockingPool pool(1);
  AioQueue queue(opened.file, pool, 64);
  opened.temporary.write(0, pattern(64 * block, 1));
  const std::size_t count = GENERATE(32U, 64U);
  std::deque<Transfer> reads;
  for (std::size_t i = 0; i < count; ++i)
    queue.submit(reads.emplace_back(Operation::read, i * block, block).io);
  queue.flush();
  const auto first = queue.harvest();
  CHECK(first > 0);
  CHECK((first < count) == (count == 32));
  REQUIRE(drive(queue, [&] { return queue.in_flight() == 0; }));
  for (const auto& read : reads) CHECK(read.io.result() == static_cast<std::int64_t>(block));
}

TEST_CASE("one context serves many times the slots of its ring") {
  const auto harvest_by = GENERATE(HarvestBy::ring, HarvestBy::system_call);
  Subject subject(mib, 2, harvest_by);
  std::size_t completed = 0;
  Transfer transfer(Operation::read, 0, block);
  transfer.io.on_complete = [&] {
    if (++completed < 3000) subject.queue.submit(transfer.io);
  };
  subject.queue.submit(transfer.io);
  REQUIRE(drive(subject.queue, [&] { return completed == 3000; }));
  CHECK(subject.queue.in_flight() == 0);
}

TEST_CASE("writes are exact wherever the file has holes, space set aside, or cached pages") {
  Subject subject(4 * mib);
  auto& file = subject.opened.temporary;
  file.write(0, pattern(mib, 1));  // cached and dirty
  const auto fd = open_fd(file.path(), O_RDWR);
  REQUIRE(::posix_fallocate(fd.get(), mib, mib) == 0);  // unwritten; behind it a hole
  auto expected = file.read(0, 4 * mib);
  for (const std::uint64_t offset : {std::uint64_t{0}, mib - block, 2 * mib - block, 3 * mib}) {
    CAPTURE(offset);
    const auto content = pattern(2 * block, offset);
    CHECK(write_bytes(subject.queue, offset, content, block) ==
          static_cast<std::int64_t>(2 * block));
    std::copy(content.begin(), content.end(),
              expected.begin() + static_cast<std::ptrdiff_t>(offset));
    CHECK(read_bytes(subject.queue, offset, 2 * block, block) == content);
  }
  CHECK(file.read(0, 4 * mib) == expected);
  CHECK(file.size() == 4 * mib);
}

TEST_CASE("many writes into holes and reads beside them are exact, by either way of harvesting") {
  const auto harvest_by = GENERATE(HarvestBy::ring, HarvestBy::system_call);
  constexpr std::size_t count = 256;
  Subject subject(count * 2 * block, 16, harvest_by);
  // The even blocks are holes that are written, the odd ones holes that are read.
  std::deque<Transfer> transfers;
  for (std::size_t i = 0; i < 2 * count; ++i) {
    auto& transfer =
        transfers.emplace_back(i % 2 == 0 ? Operation::write : Operation::read, i * block, block);
    if (i % 2 == 0) std::ranges::copy(pattern(block, i), transfer.memory.bytes());
    subject.queue.submit(transfer.io);
  }
  REQUIRE(drive(subject.queue, [&] { return subject.queue.in_flight() == 0; }));
  const auto content = subject.opened.temporary.read(0, count * 2 * block);
  for (std::size_t i = 0; i < 2 * count; ++i) {
    CAPTURE(i);
    CHECK(transfers[i].io.completions() == 1);
    CHECK(transfers[i].io.result() == static_cast<std::int64_t>(block));
    const auto expected = i % 2 == 0 ? pattern(block, i) : Bytes(block);
    CHECK(std::equal(expected.begin(), expected.end(), transfers[i].memory.bytes()));
    CHECK(std::equal(expected.begin(), expected.end(),
                     content.begin() + static_cast<std::ptrdiff_t>(i * block)));
  }
}

TEST_CASE("in the tail reads and writes are exact at any alignment and never lengthen the file") {
  constexpr std::uint64_t size = 3 * block + 777;
  Subject subject(size);
  const auto content = pattern(100, 5);
  CHECK(write_bytes(subject.queue, size - 100, content, 1) == 100);
  CHECK(write_bytes(subject.queue, 3 * block + 1, pattern(3, 6), 1, true) == 3);
  CHECK(read_bytes(subject.queue, size - 100, 100, 1) == content);
  CHECK(subject.opened.temporary.size() == size);
  auto tail = Bytes(777);
  std::copy_n(content.begin(), 100, tail.end() - 100);
  std::copy_n(pattern(3, 6).begin(), 3, tail.begin() + 1);
  CHECK(subject.opened.temporary.read(3 * block, 2 * block) == tail);
}

TEST_CASE("an operation that the kernel refuses fails alone") {
  Subject subject(mib);
  std::array<Transfer, 3> transfers{Transfer(Operation::read, 0, block),
                                    Transfer(Operation::read, block, block),
                                    Transfer(Operation::read, 2 * block, block)};
  transfers[1].io.length = UINT64_MAX / 2 + 1;  // io_submit itself looks at that
  for (auto& transfer : transfers) subject.queue.submit(transfer.io);
  subject.queue.flush();
  CHECK(transfers[1].io.completions() == 0);  // only harvest() completes
  REQUIRE(drive(subject.queue, [&] { return subject.queue.in_flight() == 0; }));
  CHECK(transfers[0].io.result() == static_cast<std::int64_t>(block));
  CHECK(transfers[1].io.result() == -EINVAL);
  CHECK(transfers[2].io.result() == static_cast<std::int64_t>(block));
}

TEST_CASE("a file that shrank gives EIO beyond its new end, and a line for people once") {
  const std::uint64_t new_size =
      GENERATE(as<std::uint64_t>{}, 8 * block, 8 * block + 512, 8 * block + 100, 0);
  CAPTURE(new_size);
  Subject subject(mib);
  subject.opened.temporary.write(0, pattern(mib, 3));
  subject.opened.temporary.resize(new_size);
  for (const std::uint64_t first : {0U, 7U, 8U, 100U}) {
    CAPTURE(first);
    Transfer transfer(Operation::read, first * block, 4 * block);
    const bool inside = (first + 4) * block <= new_size;
    CHECK(run(subject.queue, transfer.io) ==
          (inside ? static_cast<std::int64_t>(4 * block) : -EIO));
  }
  CHECK(subject.opened.reports.lines().size() == 1);
}

TEST_CASE("after a failed sync flushes and durable writes fail, and the rest goes on") {
  Subject subject(mib);
  TestIo flush(Operation::flush, 0, 0);
  CHECK(run(subject.queue, flush) == 0);
  CHECK(write_bytes(subject.queue, 0, pattern(block, 1), block, true) ==
        static_cast<std::int64_t>(block));
  subject.opened.file.note_sync_failure(-EIO);
  TestIo late_flush(Operation::flush, 0, 0);
  CHECK(run(subject.queue, late_flush) == -EIO);
  CHECK(write_bytes(subject.queue, 0, pattern(block, 2), block, true) == -EIO);
  CHECK(write_bytes(subject.queue, 0, pattern(block, 3), block) ==
        static_cast<std::int64_t>(block));
  CHECK(read_bytes(subject.queue, 0, block, block) == pattern(block, 3));
  CHECK(subject.opened.reports.lines().size() == 1);
}

TEST_CASE("a flush that the kernel refuses is a failed sync") {
  // No file at all, so to speak: one that cannot be synced.
  std::array<int, 2> ends{};
  REQUIRE(::pipe2(ends.data(), O_CLOEXEC) == 0);
  const FileDescriptor reading_end(ends[0]);
  FileTraits traits;
  traits.size = traits.aligned_size = mib;
  BackingFile file(FileDescriptor(ends[1]), {}, traits, [](std::string_view) {});
  BlockingPool pool(1);
  AioQueue queue(file, pool, 4);
  TestIo flush(Operation::flush, 0, 0);
  CHECK(run(queue, flush) == -EINVAL);
  CHECK(file.sync_error() == -EINVAL);
}

TEST_CASE("a durable write that finds no space is no failed sync") {
  Subject subject(4 * mib);
  const FileSizeLimit limit(mib);
  CHECK(write_bytes(subject.queue, 2 * mib, pattern(block, 1), block, true) == -EFBIG);
  CHECK(write_bytes(subject.queue, 2 * mib, pattern(block, 1), block) == -EFBIG);
  CHECK(subject.opened.file.sync_error() == 0);
}

TEST_CASE("a queue for which the system has no room is served by threads, and says what to do") {
  std::size_t limit = 0;
  std::ifstream("/proc/sys/fs/aio-max-nr") >> limit;
  REQUIRE(limit > 0);
  // More than eight million are refused for another reason.
  if (limit >= (8U << 20)) {
    WARN("skipped: the limit is out of reach");
    return;
  }
  OpenedFile opened(mib);
  BlockingPool pool(1);
  const auto depth = limit + 1;
  CHECK(aio_shortage(depth).find("fs.aio-max-nr") != std::string::npos);
  CHECK(aio_shortage(0).empty());
  AioQueue queue(opened.file, pool, depth);
  CHECK(opened.reports.lines().empty());  // nothing is needed yet
  const auto content = pattern(block, 1);
  CHECK(write_bytes(queue, 0, content, block, true) == static_cast<std::int64_t>(block));
  CHECK(read_bytes(queue, 0, block, block) == content);
  TestIo flush(Operation::flush, 0, 0);
  CHECK(run(queue, flush) == 0);
  REQUIRE(opened.reports.lines().size() == 1);
  CHECK_THAT(opened.reports.lines()[0],
             Catch::Contains("fs.aio-max-nr") && Catch::Contains(std::to_string(depth)) &&
                 Catch::Contains(std::to_string(limit)) && Catch::Contains("served by threads"));
}

TEST_CASE("a queue has room of the system's only from its first operation until it is suspended") {
  const auto taken = [] {
    std::size_t count = 0;
    std::ifstream("/proc/sys/fs/aio-nr") >> count;
    return count;
  };
  // Unlikely to be what others on this machine take at the same time.
  constexpr std::size_t depth = 9001;
  OpenedFile opened(mib);
  BlockingPool pool(1);
  AioQueue queue(opened.file, pool, depth);
  for (int round = 0; round < 2; ++round) {
    CAPTURE(round);
    const auto before = taken();
    CHECK(read_bytes(queue, 0, block, block) == Bytes(block));
    CHECK(taken() >= before + depth / 2);
    queue.suspend();
    while (taken() >= before + depth / 2) std::this_thread::yield();
  }
  queue.suspend();  // does nothing
}

TEST_CASE("trims, zeroes, cache and status go by way of the pool while reads go on") {
  Subject subject(64 * mib);
  subject.opened.temporary.write(0, pattern(mib, 1));
  TestIo discard(Operation::discard, 0, block);
  TestIo zeroes(Operation::write_zeroes, block, 63 * mib);
  TestIo cache(Operation::cache, 0, mib);
  std::array<Extent, 4> extents;
  TestIo status(Operation::block_status, 0, 64 * mib);
  status.extents = extents;
  for (TestIo* io : {&discard, &zeroes, &cache}) subject.queue.submit(*io);
  Transfer read(Operation::read, 63 * mib + block, block);
  subject.queue.submit(read.io);
  REQUIRE(drive(subject.queue, [&] { return subject.queue.in_flight() == 0; }));
  CHECK(discard.result() == 0);
  CHECK(zeroes.result() == 0);
  CHECK(cache.result() == 0);
  CHECK(read.io.result() == static_cast<std::int64_t>(block));
  CHECK(subject.opened.temporary.read(0, mib) == Bytes(mib));
  REQUIRE(run(subject.queue, status) == 1);
  CHECK(extents[0].length == 64 * mib);
  CHECK(extents[0].zero);
}

TEST_CASE("what a hole is called reads as zeroes, also right after a write into it") {
  Subject subject(mib);
  for (std::uint64_t offset = 0; offset < mib; offset += 16 * block) {
    CAPTURE(offset);
    REQUIRE(write_bytes(subject.queue, offset, pattern(block, offset), block) ==
            static_cast<std::int64_t>(block));
    std::array<Extent, 2> extents;
    TestIo status(Operation::block_status, offset, mib - offset);
    status.extents = extents;
    REQUIRE(run(subject.queue, status) == 2);
    CHECK_FALSE(extents[0].zero);
    CHECK(extents[0].length < 16 * block);
    CHECK(extents[1].zero);
  }
}

TEST_CASE("queues of one file in several threads lose nothing") {
  constexpr std::size_t threads = 3;
  constexpr std::size_t blocks = 64;  // of each thread, between those of the others
  OpenedFile opened(threads * blocks * block);
  BlockingPool pool(2);
  const auto place = [](std::size_t thread, std::size_t i) {
    return (i * threads + thread) * block;
  };
  const auto work = [&](std::size_t thread) {
    AioQueue queue(opened.file, pool, 8);
    std::mt19937_64 random(thread);
    std::deque<Transfer> writes;
    for (std::size_t i = 0; i < blocks; ++i) {
      auto& write = writes.emplace_back(Operation::write, place(thread, i), block);
      write.memory.fill(std::byte(thread * blocks + i + 1));
      write.io.fua = random() % 8 == 0;
      queue.submit(write.io);
      if (random() % 4 == 0) queue.flush();
      if (random() % 4 == 0) queue.harvest();
    }
    drive(queue, [&] { return queue.in_flight() == 0; });
    TestIo flush(Operation::flush, 0, 0);
    run(queue, flush);
  };
  std::vector<std::thread> running;
  for (std::size_t thread = 0; thread < threads; ++thread) running.emplace_back(work, thread);
  for (auto& thread : running) thread.join();
  for (std::size_t thread = 0; thread < threads; ++thread) {
    for (std::size_t i = 0; i < blocks; ++i) {
      CAPTURE(thread, i);
      CHECK(opened.temporary.read(place(thread, i), block) ==
            Bytes(block, std::byte(thread * blocks + i + 1)));
    }
  }
}
