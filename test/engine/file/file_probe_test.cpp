#include "engine/file/file_probe.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <atomic>
#include <bit>
#include <catch2/catch.hpp>
#include <thread>

#include "engine/buffer_pool.h"
#include "test/engine/opened_file.h"

using namespace test;

TEST_CASE("the alignment that is found is enough for direct reads at any multiple of it") {
  const auto folder = GENERATE(disk_folder(), memory_folder());
  const std::uint64_t size = GENERATE(as<std::uint64_t>{}, 1, 511, 512, 4096, 100'000);
  CAPTURE(folder, size);
  const TemporaryFile temporary(folder, size);
  const auto file = open_fd(temporary.path(), O_RDWR | O_DIRECT);
  if (!file) {
    WARN("skipped: no direct I/O in " << folder);
    return;
  }
  const auto alignment = engine::probe_direct_alignment(file.get(), size);
  REQUIRE(alignment);
  CHECK(std::has_single_bit(*alignment));
  CHECK(*alignment >= 512);
  CHECK(*alignment <= 65536);
  alignas(65536) static std::byte memory[2 * 65536];
  for (const std::uint64_t offset : {std::uint64_t{0}, std::uint64_t{*alignment}}) {
    CHECK(::pread(file.get(), memory + *alignment, *alignment, static_cast<off_t>(offset)) >= 0);
  }
}

TEST_CASE("an alignment that only holes have answered for is 4096 at least") {
  const TemporaryFile temporary(disk_folder(), 1U << 20);
  const auto file = open_fd(temporary.path(), O_RDWR | O_DIRECT);
  if (!file) {
    WARN("skipped: no direct I/O in " << disk_folder());
    return;
  }
  CHECK(engine::probe_alignment_by_reading(file.get(), 1U << 20) >= 4096U);
  temporary.write(5 * 4096, Bytes(65536, std::byte{7}));
  const auto found = engine::probe_alignment_by_reading(file.get(), 1U << 20);
  REQUIRE(found);
  CHECK(found <= engine::probe_direct_alignment(file.get(), 1U << 20));
}

TEST_CASE("a descriptor that cannot be read directly has no alignment") {
  const engine::FileDescriptor folder(::open("/", O_RDONLY | O_DIRECTORY | O_CLOEXEC));
  CHECK_FALSE(engine::probe_direct_alignment(folder.get(), 4096));
  CHECK_FALSE(engine::probe_nowait(folder.get(), 4096));
}

TEST_CASE("asking for holes changes nothing") {
  const auto folder = GENERATE(disk_folder(), memory_folder());
  const std::uint64_t size = GENERATE(as<std::uint64_t>{}, 1, 4096, 10'000);
  const TemporaryFile temporary(folder, size);
  temporary.write(0, Bytes(size, std::byte{7}));
  const auto file = open_fd(temporary.path(), O_RDWR);
  CHECK(engine::probe_punch_hole(file.get()));
  CHECK(temporary.size() == size);
  CHECK(temporary.read(0, size + 1) == Bytes(size, std::byte{7}));
}

TEST_CASE("asking for holes destroys nothing in a file that grows meanwhile") {
  const TemporaryFile temporary(disk_folder(), 4096);
  const auto file = open_fd(temporary.path(), O_RDWR);
  const Bytes content(64 << 10, std::byte{7});
  std::atomic<bool> over{false};
  std::thread grower([&] {
    // The one that has the file locked makes it longer and writes there, again and again.
    for (int round = 0; round < 200; ++round) {
      temporary.resize(4096);
      temporary.write(4096, content);
      if (temporary.read(4096, content.size()) != content) break;
      if (round == 199) over = true;
    }
  });
  for (int round = 0; round < 2000; ++round) engine::probe_punch_hole(file.get());
  grower.join();
  CHECK(over);
}

TEST_CASE("a file without fallocate punches no holes") {
  CHECK_FALSE(engine::probe_punch_hole(open_fd("/proc/self/comm", O_RDWR).get()));
}

TEST_CASE("what is on no single device has no queue to ask") {
  CHECK_FALSE(engine::queue_attribute(0, "rotational"));
}

TEST_CASE("a loop device answers for its queue") {
  const TemporaryFile temporary(disk_folder(), 1U << 20);
  const auto loop = LoopDevice::make(temporary, 512);
  if (!loop) return;
  struct stat status {};
  REQUIRE(::stat(loop->path().c_str(), &status) == 0);
  CHECK(engine::queue_attribute(status.st_rdev, "logical_block_size") == 512);
  CHECK_FALSE(engine::queue_attribute(status.st_rdev, "no_such_attribute"));
}
