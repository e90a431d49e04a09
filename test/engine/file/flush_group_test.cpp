#include "engine/file/flush_group.h"

#include <catch2/catch.hpp>
#include <latch>
#include <vector>

#include "engine/blocking_pool.h"
#include "engine/file/blocking_lane.h"
#include "test/engine/opened_file.h"
#include "test/engine/test_io.h"

using namespace engine;
using namespace test;

namespace {

std::vector<Io*> all_of(IoList list) {
  std::vector<Io*> ios;
  while (auto* const io = list.pop_front()) ios.push_back(io);
  return ios;
}

// A job that waits to be told to go on.
class Gate final : public BlockingPool::Job {
 public:
  void run() noexcept override {
    here_.count_down();
    open_.wait();
  }
  void wait() { here_.wait(); }
  void open() { open_.count_down(); }

 private:
  std::latch here_{1};
  std::latch open_{1};
};

}  // namespace

TEST_CASE(
    "a flush that comes before the sync begins is in its batch, one that comes later is not") {
  FlushGroup group;
  TestIo first(Operation::flush, 0, 0);
  TestIo second(Operation::flush, 0, 0);
  TestIo late(Operation::flush, 0, 0);
  TestIo later(Operation::flush, 0, 0);
  CHECK(group.add(first));
  CHECK_FALSE(group.add(second));
  CHECK(all_of(group.take()) == std::vector<Io*>{&first, &second});
  // Now the sync goes on.
  CHECK_FALSE(group.add(late));
  CHECK_FALSE(group.add(later));
  CHECK(group.pass_on() == &late);
  CHECK(all_of(group.take()) == std::vector<Io*>{&late, &later});
  CHECK(group.pass_on() == nullptr);
  CHECK(group.add(first));
  CHECK(all_of(group.take()).size() == 1);
  CHECK(group.pass_on() == nullptr);
}

TEST_CASE("the flushes of all lanes that wait are answered by one job, with its error") {
  OpenedFile opened(4096, false);
  EventFd wakeup;
  EventFd other_wakeup;
  BlockingPool pool(1);
  BlockingLane lane(opened.file, pool, wakeup);
  BlockingLane other(opened.file, pool, other_wakeup);
  Gate before;
  Gate after;
  TestIo first(Operation::flush, 0, 0);
  TestIo second(Operation::flush, 0, 0);
  TestIo third(Operation::flush, 0, 0);
  pool.run(before);
  before.wait();
  lane.start(first);
  pool.run(after);  // jobs of their own would stand behind it
  lane.start(second);
  other.start(third);
  opened.file.note_sync_failure(-EIO);
  before.open();
  after.wait();
  CHECK(all_of(lane.take_finished()) == std::vector<Io*>{&first, &second});
  CHECK(all_of(other.take_finished()) == std::vector<Io*>{&third});
  for (auto* const io : {&first, &second, &third}) CHECK(BlockingLane::result(*io) == -EIO);
  after.open();
}
