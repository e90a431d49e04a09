#include "engine/file/buffered_queue.h"

#include <sys/uio.h>

#include <algorithm>
#include <array>
#include <catch2/catch.hpp>
#include <cerrno>
#include <latch>

#include "engine/blocking_pool.h"
#include "test/engine/opened_file.h"
#include "test/engine/test_io.h"

using namespace engine;
using namespace test;

namespace {

// Keeps a thread of a pool busy until it is opened.
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
  std::array<Gate, 2> gates;  // as many as the pool has threads, which end first
  OpenedQueue<BufferedQueue> subject(1U << 20);
  const auto content = pattern(65536, 1);
  subject.opened.temporary.write(0, content);
  if (!can_read_at_once(subject.opened)) {
    WARN("skipped: this file system has no RWF_NOWAIT");
    return;
  }
  for (auto& gate : gates) subject.pool.run(gate);
  TestIo flush(Operation::flush, 0, 0);
  subject.queue.submit(flush);
  CHECK(read_bytes(subject.queue, 1234, 5000, 1) ==
        Bytes(content.begin() + 1234, content.begin() + 6234));
  CHECK_FALSE(flush.is_complete());
  for (auto& gate : gates) gate.open();
  REQUIRE(drive(subject.queue, [&] { return flush.is_complete(); }));
  CHECK(flush.result() == 0);
  CHECK(subject.queue.in_flight() == 0);
}

TEST_CASE("what is done in place completes only from harvest(), and wakes for it") {
  OpenedQueue<BufferedQueue> subject(1U << 20);
  subject.opened.temporary.write(0, pattern(4096, 1));
  const IoMemory memory(0, 4096, 1);
  TestIo read(Operation::read, 0, 4096, memory.bytes());
  subject.queue.submit(read);
  subject.queue.flush();
  CHECK_FALSE(read.is_complete());
  CHECK(subject.queue.in_flight() == 1);
  REQUIRE(drive(subject.queue, [&] { return read.is_complete(); }));
  CHECK(memory.copy() == pattern(4096, 1));
}

TEST_CASE("a read of a file that shrank fails although part of it is in the cache") {
  OpenedQueue<BufferedQueue> subject(65536);
  subject.opened.temporary.resize(1000);
  const IoMemory memory(0, 4096, 1);
  TestIo whole(Operation::read, 0, 1000, memory.bytes());
  CHECK(run(subject.queue, whole) == 1000);
  TestIo beyond(Operation::read, 0, 1001, memory.bytes());
  CHECK(run(subject.queue, beyond) == -EIO);
  CHECK(subject.opened.reports.lines().size() == 1);
}

TEST_CASE("writes find the file's bytes at any offset, durable or not, on any file system") {
  const auto folder = GENERATE(disk_folder(), memory_folder());
  OpenedQueue<BufferedQueue> subject(65536, false, folder);
  Bytes expected(65536);
  for (const std::size_t offset : {0U, 1U, 511U, 4095U, 65536U - 5000U}) {
    for (const bool durable : {false, true}) {
      CAPTURE(offset, durable);
      const auto content = pattern(5000, offset + durable);
      CHECK(write_bytes(subject.queue, offset, content, 1, durable) == 5000);
      std::copy(content.begin(), content.end(),
                expected.begin() + static_cast<std::ptrdiff_t>(offset));
      CHECK(read_bytes(subject.queue, offset, 5000, 1) == content);
    }
  }
  CHECK(subject.opened.temporary.read(0, 65537) == expected);
}

TEST_CASE("after a failed sync a buffered queue fails flushes and durable writes") {
  OpenedQueue<BufferedQueue> subject(65536);
  subject.opened.file.note_sync_failure(-EIO);
  TestIo flush(Operation::flush, 0, 0);
  CHECK(run(subject.queue, flush) == -EIO);
  CHECK(write_bytes(subject.queue, 0, pattern(10, 1), 1, true) == -EIO);
  CHECK(write_bytes(subject.queue, 0, pattern(10, 2), 1) == 10);
}
