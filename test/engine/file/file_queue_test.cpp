#include "engine/file/file_queue.h"

#include <catch2/catch.hpp>

#include "engine/blocking_pool.h"
#include "test/engine/opened_file.h"
#include "test/engine/test_io.h"

using namespace engine;
using namespace test;

namespace {

// Answers reads itself and leaves the rest to the lane.
class HalfQueue final : public FileQueue {
 public:
  HalfQueue(BackingFile& file, BlockingPool& pool) : FileQueue(file, pool) {}

  void flush() noexcept override {
    while (Io* const io = waiting_.pop_front()) {
      if (io->operation == Operation::read)
        finish_later(*io, static_cast<std::int64_t>(io->length));
      else
        lane_.start(*io);
    }
    wake_for_finished();
  }
  std::size_t harvest() noexcept override { return harvest_finished(); }
};

}  // namespace

TEST_CASE("a file queue completes its own results and those of the lane in harvest") {
  OpenedQueue<HalfQueue> subject(4096);
  Bytes memory(512);
  TestIo read(Operation::read, 0, memory.size(), memory.data());
  TestIo flush(Operation::flush, 0, 0);
  subject.queue.submit(read);
  subject.queue.submit(flush);
  CHECK(subject.queue.in_flight() == 2);

  subject.queue.flush();
  CHECK(is_readable(subject.queue.wakeup_fd()));
  CHECK_FALSE(read.is_complete());
  REQUIRE(drive(subject.queue, [&] { return flush.is_complete(); }));
  CHECK(read.result() == 512);
  CHECK(flush.result() == 0);
  CHECK(subject.queue.in_flight() == 0);
}
