#include "engine/file/file_device.h"

#include <algorithm>
#include <array>
#include <catch2/catch.hpp>
#include <cerrno>
#include <cstdio>
#include <memory>
#include <string>
#include <thread>
#include <vector>

#include "engine/open_device.h"
#include "test/engine/contract.h"
#include "test/engine/opened_file.h"
#include "test/engine/test_io.h"

using namespace engine;
using namespace test;

namespace {

constexpr std::uint64_t mib = 1U << 20;

// The things that a device stands on, destroyed from the last to the first.
struct Backing {
  Backing(const std::string& folder, std::uint64_t size) : file(folder, size) {}

  TemporaryFile file;
  std::optional<LoopDevice> loop;
};

bool direct_io_works(const std::string& folder) {
  Backing backing(folder, 4096);
  const FileSpec spec{.path = backing.file.path()};
  if (open_device(spec)->mode() == "direct") return true;
  WARN("skipped: no direct I/O in " << folder);
  return false;
}

void check_file(const std::string& folder, DirectIo mode, std::uint64_t window_offset = 0) {
  Contract contract;
  contract.name = folder;
  contract.make = [=](std::uint64_t size) {
    auto backing = std::make_shared<Backing>(folder, window_offset + size);
    ContractSubject subject;
    FileSpec spec{.path = backing->file.path(), .direct_io = mode, .offset = window_offset};
    if (window_offset != 0) spec.size = size;
    subject.device = open_device(spec);
    subject.backing_size = [backing] { return backing->file.size(); };
    subject.backing = backing;
    return subject;
  };
  check_contract(contract);
}

void check_loop(std::uint32_t block_size, DirectIo mode) {
  const TemporaryFile trial(disk_folder(), mib);
  if (!LoopDevice::make(trial, block_size)) return;
  Contract contract;
  contract.name = "loop device";
  contract.size_unit = block_size;
  contract.make = [=](std::uint64_t size) {
    auto backing = std::make_shared<Backing>(disk_folder(), size);
    if (auto loop = LoopDevice::make(backing->file, block_size))
      backing->loop.emplace(std::move(*loop));
    REQUIRE(backing->loop);
    ContractSubject subject;
    subject.device = open_device(FileSpec{.path = backing->loop->path(), .direct_io = mode});
    if (mode == DirectIo::on) CHECK(subject.device->geometry().block_size == block_size);
    subject.backing_size = [backing] { return backing->file.size(); };
    subject.backing = backing;
    return subject;
  };
  check_contract(contract);
}

}  // namespace

TEST_CASE("a direct file on disk keeps the contract") {
  if (direct_io_works(disk_folder())) check_file(disk_folder(), DirectIo::on);
}

TEST_CASE("a direct file in memory keeps the contract") {
  if (direct_io_works(memory_folder())) check_file(memory_folder(), DirectIo::on);
}

TEST_CASE("a direct window that begins inside a page keeps the contract") {
  if (direct_io_works(disk_folder())) check_file(disk_folder(), DirectIo::on, 4096 + 512);
}

TEST_CASE("a buffered file on disk keeps the contract") {
  check_file(disk_folder(), DirectIo::off);
}

TEST_CASE("a buffered file in memory keeps the contract") {
  check_file(memory_folder(), DirectIo::off);
}

TEST_CASE("a buffered window at any byte keeps the contract") {
  check_file(disk_folder(), DirectIo::off, 12345);
}

TEST_CASE("a loop device of 512-byte blocks keeps the contract") { check_loop(512, DirectIo::on); }

TEST_CASE("a loop device of 4096-byte blocks keeps the contract") {
  check_loop(4096, DirectIo::on);
}

TEST_CASE("a buffered loop device keeps the contract") { check_loop(4096, DirectIo::off); }

TEST_CASE("a window leaves every byte around it alone") {
  const auto mode = GENERATE(DirectIo::automatic, DirectIo::off);
  const std::uint64_t size = GENERATE(as<std::uint64_t>{}, 1, 511, 4096, 5000, 65536 + 3000);
  CAPTURE(static_cast<int>(mode), size);
  const std::uint64_t offset = 4096 + 512;
  const TemporaryFile file(disk_folder(), 4 * 65536);
  auto expected = pattern(4 * 65536, 1);
  file.write(0, expected);
  const auto device =
      open_device(FileSpec{.path = file.path(), .direct_io = mode, .offset = offset, .size = size});
  const auto queue = device->make_queue(4);
  const auto block_size = device->geometry().block_size;

  const auto content = pattern(size, 2);
  CHECK(write_bytes(*queue, 0, content, block_size) == static_cast<std::int64_t>(size));
  std::copy(content.begin(), content.end(), expected.begin() + static_cast<std::ptrdiff_t>(offset));
  CHECK(file.read(0, expected.size()) == expected);

  TestIo zeroes(Operation::write_zeroes, 0, size);
  CHECK(run(*queue, zeroes) == 0);
  std::fill_n(expected.begin() + static_cast<std::ptrdiff_t>(offset), size, std::byte{0});
  CHECK(file.read(0, expected.size()) == expected);

  TestIo discard(Operation::discard, 0, size);
  CHECK(run(*queue, discard) == 0);
  CHECK(file.read(0, expected.size()) == expected);

  std::array<Extent, 8> extents;
  TestIo status(Operation::block_status, 0, size);
  status.extents = extents;
  const auto count = run(*queue, status);
  REQUIRE(count > 0);
  std::uint64_t covered = 0;
  for (std::int64_t i = 0; i < *count; ++i) covered += extents[static_cast<std::size_t>(i)].length;
  CHECK(covered <= size);
}

TEST_CASE("four gibibytes are zeroed and trimmed although requests in between go on") {
  constexpr std::uint64_t size = 4ULL << 30;
  const TemporaryFile file(disk_folder(), size + 4096);
  file.write(size, pattern(4096, 1));
  file.write(size - 4096, pattern(4096, 2));
  const auto device = open_device(FileSpec{.path = file.path()});
  const auto queue = device->make_queue(4);
  TestIo zeroes(Operation::write_zeroes, 0, size);
  TestIo trim(Operation::discard, 0, size);
  queue->submit(zeroes);
  queue->submit(trim);
  CHECK(read_bytes(*queue, size, 4096, device->geometry().block_size) == pattern(4096, 1));
  REQUIRE(drive(*queue, [&] { return queue->in_flight() == 0; }));
  CHECK(zeroes.result() == 0);
  CHECK(trim.result() == 0);
  CHECK(file.read(size - 4096, 4096) == Bytes(4096));
  CHECK(file.allocated() <= mib);
}

TEST_CASE("what the page cache cannot write out fails this flush and all later ones") {
  const auto full = SmallFileSystem::make(mib);
  if (!full) return;
  const TemporaryFile file(full->folder(), 64 * mib);
  const auto loop = LoopDevice::make(file, 4096);
  if (!loop) return;
  Reports reports;
  const auto device = open_device(FileSpec{.path = loop->path(), .direct_io = DirectIo::off},
                                  {.report = [&](std::string_view line) { reports.add(line); }});
  const auto queue = device->make_queue(4);
  const auto other = device->make_queue(4);
  const auto flush = [](IoQueue& on) {
    TestIo io(Operation::flush, 0, 0);
    return run(on, io);
  };
  REQUIRE(flush(*queue) == 0);
  const auto content = pattern(mib, 1);
  for (std::uint64_t i = 0; i < 4; ++i)
    CHECK(write_bytes(*queue, i * mib, content, 1) == static_cast<std::int64_t>(mib));

  const auto error = flush(*queue);
  REQUIRE(error);
  CHECK(*error < 0);
  CHECK(flush(*queue) == error);
  CHECK(flush(*other) == error);
  CHECK(write_bytes(*other, 0, pattern(4096, 2), 1, true) == *error);
  CHECK(write_bytes(*other, 0, pattern(4096, 3), 1) == 4096);
  CHECK(device->sync() == *error);
  CHECK(reports.lines().size() == 1);
}

TEST_CASE("a device knows its store and its window, and makes the file longer") {
  const TemporaryFile file(disk_folder(), 4 * mib);
  const TemporaryFile other(disk_folder(), mib);
  const auto open = [&](const std::string& path, std::uint64_t offset, std::uint64_t size) {
    return open_device(FileSpec{.path = path, .offset = offset, .size = size});
  };
  const auto first = open(file.path(), 0, mib);
  const auto second = open(file.path(), mib, mib);
  const auto elsewhere = open(other.path(), 0, mib);
  CHECK(first->same_store(*second));
  CHECK_FALSE(first->same_window(*second));
  CHECK_FALSE(first->same_store(*elsewhere));
  CHECK_FALSE(first->same_window(*elsewhere));

  CHECK(second->grow(2 * mib) == 0);
  CHECK(file.size() == 4 * mib);  // it was long enough
  CHECK(second->grow(5 * mib) == 0);
  CHECK(file.size() == 6 * mib);
  CHECK(second->size() == mib);
  CHECK(second->grow(INT64_MAX) == -EFBIG);
}

TEST_CASE("a file that has lost its name is not made longer") {
  const TemporaryFile file(disk_folder(), mib);
  const auto device = open_device(FileSpec{.path = file.path()});
  const TemporaryFile other(disk_folder(), mib);
  REQUIRE(std::rename(other.path().c_str(), file.path().c_str()) == 0);
  CHECK(device->grow(2 * mib) == -ESTALE);
  CHECK(file.size() == mib);
}

TEST_CASE("queues of one device in several threads serve what they are given") {
  const auto mode = GENERATE(DirectIo::automatic, DirectIo::off);
  constexpr std::size_t threads = 3;
  constexpr std::size_t pieces = 48;   // of each thread, between those of the others
  constexpr std::size_t length = 512;  // bytes: may be less than a block
  constexpr std::uint64_t size = threads * pieces * length + 100;
  const TemporaryFile file(disk_folder(), size);
  const auto device = open_device(FileSpec{.path = file.path(), .direct_io = mode});
  const auto place = [](std::size_t thread, std::size_t i) {
    return (i * threads + thread) * length;
  };
  const auto work = [&](std::size_t thread) {
    const auto queue = device->make_queue(8);
    for (std::size_t i = 0; i < pieces; ++i) {
      const Bytes content(length, std::byte(thread * pieces + i + 1));
      write_bytes(*queue, place(thread, i), content, device->geometry().block_size, i % 16 == 0);
    }
    TestIo flush(Operation::flush, 0, 0);
    run(*queue, flush);
  };
  std::vector<std::thread> running;
  for (std::size_t thread = 0; thread < threads; ++thread) running.emplace_back(work, thread);
  for (auto& thread : running) thread.join();
  for (std::size_t thread = 0; thread < threads; ++thread) {
    for (std::size_t i = 0; i < pieces; ++i) {
      CAPTURE(thread, i);
      CHECK(file.read(place(thread, i), length) ==
            Bytes(length, std::byte(thread * pieces + i + 1)));
    }
  }
}
