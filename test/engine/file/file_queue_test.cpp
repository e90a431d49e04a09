#include "engine/file/file_queue.h"

#include <catch2/catch.hpp>
#include <vector>

#include "engine/blocking_pool.h"
#include "test/engine/opened_file.h"
#include "test/engine/test_io.h"

using engine::BlockingPool;
using engine::FileQueue;
using engine::Io;
using engine::Operation;
using engine::test::OpenedFile;
using engine::test::TestIo;

namespace {

// Answers reads itself and leaves the rest to the lane.
class HalfQueue final : public FileQueue {
 public:
  HalfQueue(engine::BackingFile& file, BlockingPool& pool) : FileQueue(file, pool) {}

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
  OpenedFile opened(4096, false);
  BlockingPool pool(1);
  HalfQueue queue(opened.file, pool);
  std::vector<std::byte> memory(512);
  TestIo read(Operation::read, 0, memory.size(), memory.data());
  TestIo flush(Operation::flush, 0, 0);
  queue.submit(read);
  queue.submit(flush);
  CHECK(queue.in_flight() == 2);

  queue.flush();
  CHECK(engine::test::is_readable(queue.wakeup_fd()));
  CHECK_FALSE(read.is_complete());
  REQUIRE(engine::test::drive(queue, [&] { return flush.is_complete(); }));
  CHECK(read.result() == 512);
  CHECK(flush.result() == 0);
  CHECK(queue.in_flight() == 0);
}
