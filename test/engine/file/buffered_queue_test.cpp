#include "engine/file/buffered_queue.h"

#include <sys/uio.h>

#include <algorithm>
#include <catch2/catch.hpp>
#include <cerrno>
#include <latch>
#include <vector>

#include "engine/blocking_pool.h"
#include "test/engine/opened_file.h"
#include "test/engine/test_io.h"

using engine::BlockingPool;
using engine::BufferedQueue;
using engine::Operation;
using engine::test::disk_folder;
using engine::test::drive;
using engine::test::IoMemory;
using engine::test::memory_folder;
using engine::test::OpenedFile;
using engine::test::pattern;
using engine::test::read_bytes;
using engine::test::run;
using engine::test::TestIo;
using engine::test::write_bytes;

namespace {

// Keeps the only thread of a pool busy until it is opened.
class Gate final : public BlockingPool::Job {
 public:
  void run() noexcept override { open_.wait(); }
  void open() noexcept { open_.count_down(); }

 private:
  std::latch open_{1};
};

bool can_read_at_once(const OpenedFile& opened) {
  std::byte byte{};
  const iovec vector{&byte, 1};
  return ::preadv2(opened.file.fd_for(0), &vector, 1, 0, RWF_NOWAIT) == 1;
}

}  // namespace

TEST_CASE("reads of cached pages do not wait for the pool, a flush does") {
  OpenedFile opened(1U << 20, false);
  const auto content = pattern(1, 65536);
  opened.temporary.write(0, content);
  if (!can_read_at_once(opened)) {
    WARN("skipped: this file system has no RWF_NOWAIT");
    return;
  }
  Gate gate;
  BlockingPool pool(1);
  pool.run(gate);
  BufferedQueue queue(opened.file, pool);
  TestIo flush(Operation::flush, 0, 0);
  queue.submit(flush);
  CHECK(read_bytes(queue, 1234, 5000, 1) ==
        std::vector<std::byte>(content.begin() + 1234, content.begin() + 6234));
  CHECK_FALSE(flush.is_complete());
  gate.open();
  REQUIRE(drive(queue, [&] { return flush.is_complete(); }));
  CHECK(flush.result() == 0);
  CHECK(queue.in_flight() == 0);
}

TEST_CASE("what is done in place completes only from harvest(), and wakes for it") {
  OpenedFile opened(1U << 20, false);
  opened.temporary.write(0, pattern(1, 4096));
  BlockingPool pool(1);
  BufferedQueue queue(opened.file, pool);
  const IoMemory memory(0, 4096, 1);
  TestIo read(Operation::read, 0, 4096, memory.bytes());
  queue.submit(read);
  queue.flush();
  CHECK_FALSE(read.is_complete());
  CHECK(queue.in_flight() == 1);
  REQUIRE(drive(queue, [&] { return read.is_complete(); }));
  CHECK(memory.copy() == pattern(1, 4096));
}

TEST_CASE("a read of a file that shrank fails although part of it is in the cache") {
  OpenedFile opened(65536, false);
  opened.temporary.resize(1000);
  BlockingPool pool(1);
  BufferedQueue queue(opened.file, pool);
  const IoMemory memory(0, 4096, 1);
  TestIo whole(Operation::read, 0, 1000, memory.bytes());
  CHECK(run(queue, whole) == 1000);
  TestIo beyond(Operation::read, 0, 1001, memory.bytes());
  CHECK(run(queue, beyond) == -EIO);
  CHECK(opened.reports.lines().size() == 1);
}

TEST_CASE("writes find the file's bytes at any offset, durable or not, on any file system") {
  const auto folder = GENERATE(disk_folder(), memory_folder());
  OpenedFile opened(65536, false, folder);
  BlockingPool pool(2);
  BufferedQueue queue(opened.file, pool);
  std::vector<std::byte> expected(65536);
  for (const std::size_t offset : {0U, 1U, 511U, 4095U, 65536U - 5000U}) {
    for (const bool durable : {false, true}) {
      CAPTURE(offset, durable);
      const auto content = pattern(offset + durable, 5000);
      CHECK(write_bytes(queue, offset, content, 1, durable) == 5000);
      std::copy(content.begin(), content.end(),
                expected.begin() + static_cast<std::ptrdiff_t>(offset));
      CHECK(read_bytes(queue, offset, 5000, 1) == content);
    }
  }
  CHECK(opened.temporary.read(0, 65537) == expected);
}

TEST_CASE("after a failed sync a buffered queue fails flushes and durable writes") {
  OpenedFile opened(65536, false);
  BlockingPool pool(1);
  BufferedQueue queue(opened.file, pool);
  opened.file.note_sync_failure(-EIO);
  TestIo flush(Operation::flush, 0, 0);
  CHECK(run(queue, flush) == -EIO);
  CHECK(write_bytes(queue, 0, pattern(1, 10), 1, true) == -EIO);
  CHECK(write_bytes(queue, 0, pattern(2, 10), 1) == 10);
}
