#include "engine/file/blocking_lane.h"

#include <poll.h>

#include <array>
#include <catch2/catch.hpp>
#include <cerrno>

#include "engine/blocking_pool.h"
#include "test/engine/opened_file.h"
#include "test/engine/test_io.h"

using namespace engine;
using namespace test;

namespace {

constexpr std::uint64_t mib = 1U << 20;

struct Subject {
  explicit Subject(std::uint64_t size, const std::string& folder = disk_folder())
      : opened(size, false, folder) {}

  // One operation, there and back.
  std::int64_t run(Io& io, std::uint64_t done = 0) {
    lane.start(io, done);
    pollfd wait{wakeup.get(), POLLIN, 0};
    REQUIRE(::poll(&wait, 1, 10'000) == 1);
    wakeup.clear();
    auto finished = lane.take_finished();
    REQUIRE(finished.size() == 1);
    REQUIRE(finished.front() == &io);
    CHECK(lane.take_finished().empty());
    return BlockingLane::result(io);
  }

  OpenedFile opened;
  BlockingPool pool{1};
  EventFd wakeup;
  BlockingLane lane{opened.file, pool, wakeup};
};

}  // namespace

TEST_CASE("a transfer that was cut short goes on where it was") {
  Subject subject(8192);
  auto content = pattern(1000, 1);
  TestIo write(Operation::write, 100, 1000, content.data());
  CHECK(subject.run(write, 600) == 1000);
  auto expected = Bytes(1000);
  std::copy(content.begin() + 600, content.end(), expected.begin() + 600);
  CHECK(subject.opened.temporary.read(100, 1000) == expected);

  auto memory = Bytes(1000);
  TestIo read(Operation::read, 100, 1000, memory.data());
  CHECK(subject.run(read, 700) == 1000);
  CHECK(Bytes(memory.begin(), memory.begin() + 700) == Bytes(700));
  CHECK(Bytes(memory.begin() + 700, memory.end()) == Bytes(content.begin() + 700, content.end()));
}

TEST_CASE("ranges of several pieces are zeroed and discarded to the last byte") {
  const auto operation = GENERATE(Operation::write_zeroes, Operation::discard);
  const auto folder = GENERATE(disk_folder(), memory_folder());
  const bool no_hole = GENERATE(false, true);
  CAPTURE(folder, no_hole);
  const std::uint64_t size = no_hole ? 20 * mib : 400 * mib;
  Subject subject(size, folder);
  const auto marks = {std::uint64_t{0}, size / 2, size - 4096};
  for (const auto mark : marks) subject.opened.temporary.write(mark, pattern(4096, 1));
  TestIo io(operation, 4096, size - 8192);
  io.no_hole = no_hole;
  io.fua = true;
  CHECK(subject.run(io) == 0);
  CHECK(subject.opened.temporary.read(0, 4096) == pattern(4096, 1));
  CHECK(subject.opened.temporary.read(size / 2, 4096) == Bytes(4096));
  CHECK(subject.opened.temporary.read(size - 4096, 4096) == pattern(4096, 1));
  CHECK(subject.opened.temporary.size() == size);
}

TEST_CASE("fast zeroes are refused where they would be written, and nothing changes") {
  Subject subject(mib, memory_folder());  // tmpfs punches holes but has no ZERO_RANGE
  subject.opened.temporary.write(0, pattern(mib, 1));
  TestIo io(Operation::write_zeroes, 0, mib);
  io.fast_zero = io.no_hole = true;
  CHECK(subject.run(io) == -EOPNOTSUPP);
  CHECK(subject.run(io) == -EOPNOTSUPP);  // now known
  CHECK(subject.opened.temporary.read(0, mib) == pattern(mib, 1));
  io.no_hole = false;
  CHECK(subject.run(io) == 0);
  CHECK(subject.opened.temporary.read(0, mib) == Bytes(mib));
}

TEST_CASE("flush, cache and status of one extent work, and errors arrive") {
  Subject subject(mib);
  TestIo flush(Operation::flush, 0, 0);
  CHECK(subject.run(flush) == 0);
  TestIo cache(Operation::cache, 0, mib);
  CHECK(subject.run(cache) == 0);
  subject.opened.temporary.write(65536, pattern(4096, 1));
  std::array<Extent, 4> extents;
  TestIo status(Operation::block_status, 0, mib);
  status.extents = extents;
  CHECK(subject.run(status) == 3);
  status.one_extent = true;
  CHECK(subject.run(status) == 1);

  subject.opened.file.note_sync_failure(-EIO);
  CHECK(subject.run(flush) == -EIO);
  TestIo durable(Operation::discard, 0, 4096);
  durable.fua = true;
  CHECK(subject.run(durable) == -EIO);
  durable.fua = false;
  CHECK(subject.run(durable) == 0);
}
