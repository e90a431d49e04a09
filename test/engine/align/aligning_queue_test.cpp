#include "engine/align/aligning_queue.h"

#include <algorithm>
#include <catch2/catch.hpp>
#include <cerrno>
#include <cstddef>
#include <deque>
#include <memory>
#include <tuple>
#include <utility>
#include <vector>

#include "test/double/faulty_queue.h"
#include "test/double/memory_device.h"
#include "test/engine/test_io.h"

using namespace engine;
using namespace test;

namespace {

constexpr std::size_t block = 4096;
// An operation that went down: operation, begin and end of the range, FUA, fast_zero.
using Passed = std::tuple<Operation, std::uint64_t, std::uint64_t, bool, bool>;

class RecordingQueue final : public IoQueue {
 public:
  RecordingQueue(std::unique_ptr<IoQueue> inner, std::vector<Passed>& passed,
                 std::vector<const Io*>& objects)
      : inner_(std::move(inner)), passed_(passed), objects_(objects) {}

  void submit(Io& io) noexcept override {
    passed_.emplace_back(io.operation, io.offset, io.offset + io.length, io.fua, io.fast_zero);
    objects_.push_back(&io);
    inner_->submit(io);
  }
  void flush() noexcept override { inner_->flush(); }
  std::size_t harvest() noexcept override { return inner_->harvest(); }
  int wakeup_fd() const noexcept override { return inner_->wakeup_fd(); }
  void clear_wakeup() noexcept override { inner_->clear_wakeup(); }
  std::size_t in_flight() const noexcept override { return inner_->in_flight(); }

 private:
  std::unique_ptr<IoQueue> inner_;
  std::vector<Passed>& passed_;
  std::vector<const Io*>& objects_;
};

// An aligning queue over recorder, faults and memory.
struct Stack {
  Stack(MemoryDevice& device, Faults& faults, std::size_t task_count = 128) {
    auto faulty = std::make_unique<FaultyQueue>(device.make_raw_queue(16), block, faults);
    auto recorder = std::make_unique<RecordingQueue>(std::move(faulty), passed, objects);
    queue = std::make_unique<AligningQueue>(std::move(recorder), device.alignment(),
                                            device.range_lock(), task_count);
  }

  std::vector<Passed> passed;
  std::vector<const Io*> objects;
  std::unique_ptr<AligningQueue> queue;
};

// Twelve blocks, and 100 bytes more.
constexpr std::uint64_t aligned_size = 12 * block;
constexpr std::uint64_t device_size = aligned_size + 100;

struct Fixture {
  Faults faults;
  MemoryDevice device{{.size = device_size, .block_size = block, .zero_alignment = 2 * block}};
  Stack stack{device, faults};
  IoQueue& queue = *stack.queue;
  Bytes expected = Bytes(device_size);

  std::int64_t run_one(Operation operation, std::uint64_t begin, std::uint64_t end,
                       bool fua = false, bool fast_zero = false) {
    const IoMemory memory(begin, end - begin, block);
    memory.fill(std::byte{0x11});
    TestIo io(operation, begin, end - begin, memory.bytes());
    io.fua = fua;
    io.fast_zero = fast_zero;
    stack.passed.clear();
    return run(queue, io).value_or(-1000);
  }
  void fill() {
    expected = pattern(device_size, 99);
    REQUIRE(write_bytes(queue, 0, expected, block) == static_cast<std::int64_t>(device_size));
  }
  void expect(std::uint64_t offset, const Bytes& bytes) {
    std::copy(bytes.begin(), bytes.end(), expected.begin() + static_cast<std::ptrdiff_t>(offset));
  }
  // Not left to CHECK(==), which takes minutes to print that many bytes.
  bool is_as_expected() { return read_bytes(queue, 0, device_size, block) == expected; }
};

struct PendingWrite {
  PendingWrite(std::uint64_t offset, const Bytes& bytes)
      : memory(offset, bytes.size(), block),
        io(Operation::write, offset, bytes.size(), memory.bytes()) {
    std::copy(bytes.begin(), bytes.end(), memory.bytes());
  }
  void start(IoQueue& queue) {
    queue.submit(io);
    queue.flush();
  }

  IoMemory memory;
  TestIo io;
};

void turn(IoQueue& queue) {
  queue.clear_wakeup();
  queue.flush();
  queue.harvest();
}

}  // namespace

TEST_CASE("an aligned read goes down as it is") {
  Fixture fixture;
  const IoMemory memory(block, 2 * block, block);
  TestIo io(Operation::read, block, 2 * block, memory.bytes());
  REQUIRE(run(fixture.queue, io) == 2 * block);
  CHECK(fixture.stack.objects == std::vector<const Io*>{&io});
}

namespace {

Passed one(Operation operation, std::uint64_t from, std::uint64_t to) {
  return {operation, from, to, false, false};
}

}  // namespace

TEST_CASE("each operation takes the inner operations that it needs and no more") {
  using enum Operation;
  Fixture fixture;
  constexpr std::uint64_t end = aligned_size;
  struct Case {
    Operation operation;
    std::uint64_t begin, end;
    std::vector<Passed> passed;
  };
  const std::vector<Case> cases = {
      {read, 100, 200, {one(read, 0, block)}},
      {read, block - 1, block + 1, {one(read, 0, 2 * block)}},
      {read, end - 10, end + 10, {one(read, end - block, end), one(read, end, end + 10)}},
      {read, end + 1, end + 2, {one(read, end + 1, end + 2)}},
      {write, block, 3 * block, {one(write, block, 3 * block)}},
      {write, 1, 2, {one(read, 0, block), one(write, 0, block)}},
      {write, 0, 2, {one(read, 0, block), one(write, 0, block)}},
      {write,
       block,
       2 * block + 1,
       {one(read, 2 * block, 3 * block), one(write, block, 3 * block)}},
      {write,
       5,
       5 * block - 5,
       {one(read, 0, block), one(read, 4 * block, 5 * block), one(write, 0, 5 * block)}},
      {write,
       end - 10,
       end + 10,
       {one(read, end - block, end), one(write, end - block, end), one(write, end, end + 10)}},
      {write, end, end + 100, {one(write, end, end + 100)}},
      {discard, 1, 2 * block, {}},
      {discard, 1, 6 * block - 1, {one(discard, 2 * block, 4 * block)}},
      {discard, end - block, end + 50, {one(discard, end, end + 50)}},
      {write_zeroes, 2 * block, 4 * block, {one(write_zeroes, 2 * block, 4 * block)}},
      {write_zeroes,
       block,
       5 * block,
       {one(write_zeroes, 2 * block, 4 * block), one(write, block, 2 * block),
        one(write, 4 * block, 5 * block)}},
      {write_zeroes,
       block + 8,
       block + 16,
       {one(read, block, 2 * block), one(write, block, 2 * block)}},
      {write_zeroes,
       end - 1,
       end + 100,
       {one(write_zeroes, end, end + 100), one(read, end - block, end),
        one(write, end - block, end)}},
      {cache, 1, device_size, {one(cache, 1, device_size)}},
  };
  for (const auto& [operation, from, to, passed] : cases) {
    CAPTURE(static_cast<int>(operation), from, to);
    const bool moves_bytes = operation == read || operation == write;
    CHECK(fixture.run_one(operation, from, to) ==
          (moves_bytes ? static_cast<std::int64_t>(to - from) : 0));
    CHECK(fixture.stack.passed == passed);
  }
}

TEST_CASE("FUA holds for every write that an operation consists of, and for no read") {
  Fixture fixture;
  for (const auto operation : {Operation::write, Operation::write_zeroes, Operation::discard}) {
    REQUIRE(fixture.run_one(operation, 100, device_size - 1, true) >= 0);
    REQUIRE_FALSE(fixture.stack.passed.empty());
    for (const auto& [passed, begin, end, fua, fast_zero] : fixture.stack.passed) {
      CAPTURE(static_cast<int>(passed), begin, end);
      CHECK(fua == (passed != Operation::read));
    }
  }
}

TEST_CASE("refused fast zeroes change nothing, and those that are only edges are not refused") {
  Fixture fixture;
  fixture.fill();
  fixture.faults.fail_next(Operation::write_zeroes, EOPNOTSUPP);
  CHECK(fixture.run_one(Operation::write_zeroes, 10, device_size - 1, false, true) == -EOPNOTSUPP);
  REQUIRE(fixture.stack.passed.size() == 1);
  CHECK(std::get<4>(fixture.stack.passed[0]));
  CHECK(fixture.is_as_expected());

  fixture.faults.fail_next(Operation::write_zeroes, EOPNOTSUPP);
  CHECK(fixture.run_one(Operation::write_zeroes, 10, block + 10, false, true) == 0);
  fixture.expect(10, Bytes(block));
  CHECK(fixture.is_as_expected());
}

TEST_CASE("a failed read of the old bytes fails the write and leaves the block") {
  Fixture fixture;
  fixture.fill();
  for (const auto operation : {Operation::write, Operation::write_zeroes}) {
    fixture.faults.fail_next(Operation::read, EIO);
    CHECK(fixture.run_one(operation, 100, block + 200) == -EIO);
    for (const auto& passed : fixture.stack.passed) CHECK(std::get<0>(passed) == Operation::read);
    CHECK(fixture.is_as_expected());
  }
  // The range is free again.
  CHECK(write_bytes(fixture.queue, 7, pattern(100, 5), block) == 100);
  fixture.expect(7, pattern(100, 5));
  CHECK(fixture.is_as_expected());
}

TEST_CASE("an operation of several parts completes once, with the first error") {
  Fixture fixture;
  fixture.fill();
  fixture.faults.fail_next(Operation::write, ENOSPC);
  fixture.faults.fail_next(Operation::write, EIO);
  const IoMemory memory(aligned_size - block, block + 50, block);
  TestIo io(Operation::write, aligned_size - block, block + 50, memory.bytes());
  CHECK(run(fixture.queue, io) == -ENOSPC);
  CHECK(io.completions() == 1);
  CHECK(fixture.queue.in_flight() == 0);
  CHECK(fixture.is_as_expected());
}

TEST_CASE("an aligned write does not pass a read-modify-write of its block on another queue") {
  Fixture fixture;
  fixture.fill();
  Faults no_faults;
  Stack other(fixture.device, no_faults);
  fixture.faults.hold(Faults::Hold::completions);
  PendingWrite sub_block(100, pattern(50, 1));
  sub_block.start(fixture.queue);
  turn(fixture.queue);  // the old bytes are read, and the read is held
  REQUIRE(fixture.faults.wait_for_held(1));

  PendingWrite aligned(0, pattern(block, 2));
  PendingWrite elsewhere(block, pattern(block, 3));
  aligned.start(*other.queue);
  elsewhere.start(*other.queue);
  turn(*other.queue);
  CHECK_FALSE(aligned.io.is_complete());
  CHECK(elsewhere.io.is_complete());
  CHECK(other.passed.size() == 1);

  fixture.faults.release_all();
  REQUIRE(drive(fixture.queue, [&] { return sub_block.io.is_complete(); }));
  CHECK(is_readable(other.queue->wakeup_fd()));
  REQUIRE(drive(*other.queue, [&] { return aligned.io.is_complete(); }));
  fixture.expect(0, pattern(block, 2));
  fixture.expect(block, pattern(block, 3));
  CHECK(fixture.is_as_expected());
}

TEST_CASE("the first sub-block write waits for aligned writes that began without a claim") {
  Fixture fixture;
  fixture.fill();
  Faults other_faults;
  Stack other(fixture.device, other_faults);
  other_faults.hold(Faults::Hold::starts);
  PendingWrite aligned(0, pattern(block, 1));
  aligned.start(*other.queue);
  turn(*other.queue);
  REQUIRE(other_faults.wait_for_held(1));

  PendingWrite sub_block(100, pattern(50, 2));
  fixture.stack.passed.clear();
  sub_block.start(fixture.queue);
  turn(fixture.queue);
  CHECK(fixture.stack.passed.empty());  // reading the block now would bring back its old bytes

  other_faults.release_all();
  REQUIRE(drive(*other.queue, [&] { return aligned.io.is_complete(); }));
  REQUIRE(drive(fixture.queue, [&] { return sub_block.io.is_complete(); }));
  fixture.expect(0, pattern(block, 1));
  fixture.expect(100, pattern(50, 2));
  CHECK(fixture.is_as_expected());
}

TEST_CASE("sub-block writes into one block in one batch all survive") {
  Fixture fixture;
  fixture.fill();
  std::deque<PendingWrite> writes;
  for (std::uint64_t offset = 0; offset < 3 * block; offset += 512) {
    const Bytes bytes = pattern(512, 1000 + offset);
    fixture.expect(offset, bytes);
    fixture.queue.submit(writes.emplace_back(offset, bytes).io);
  }
  REQUIRE(drive(fixture.queue, [&] { return fixture.queue.in_flight() == 0; }));
  for (const auto& write : writes) CHECK(write.io.result() == 512);
  CHECK(fixture.is_as_expected());
}

TEST_CASE("operations beyond the number of tasks wait for them") {
  MemoryDevice device({.size = device_size, .block_size = block});
  Faults faults;
  Stack stack(device, faults, 2);
  Bytes expected(device_size);
  std::deque<PendingWrite> writes;
  for (std::uint64_t offset = 0; offset + 700 <= device_size; offset += 700) {
    const Bytes bytes = pattern(700, offset);
    std::copy(bytes.begin(), bytes.end(), expected.begin() + static_cast<std::ptrdiff_t>(offset));
    stack.queue->submit(writes.emplace_back(offset, bytes).io);
    REQUIRE(stack.queue->in_flight() == writes.size());
  }
  REQUIRE(drive(*stack.queue, [&] { return stack.queue->in_flight() == 0; }));
  for (const auto& write : writes) {
    CHECK(write.io.completions() == 1);
    CHECK(write.io.result() == 700);
  }
  const bool all_there = read_bytes(*stack.queue, 0, device_size, block) == expected;
  CHECK(all_there);
}

TEST_CASE("an operation on nothing completes at harvest, with a wake-up") {
  Fixture fixture;
  TestIo discard(Operation::discard, 1, 100);
  fixture.queue.submit(discard);
  CHECK(fixture.queue.in_flight() == 1);
  fixture.queue.flush();
  CHECK_FALSE(discard.is_complete());
  CHECK(is_readable(fixture.queue.wakeup_fd()));
  CHECK(fixture.queue.harvest() == 1);
  CHECK(discard.result() == 0);
}

TEST_CASE("operations that wait for a range hold up none elsewhere, however many they are") {
  constexpr std::size_t tasks = 4;
  Faults faults;
  MemoryDevice device({.size = device_size, .block_size = block});
  Stack stack(device, faults, tasks);
  faults.hold(Faults::Hold::completions);
  TestIo zeroing(Operation::write_zeroes, 0, 2 * block);
  stack.queue->submit(zeroing);
  turn(*stack.queue);
  REQUIRE(faults.wait_for_held(1));
  // The first sub-block write waits for what was begun without a claim, and all others for that.
  std::deque<PendingWrite> waiting;
  for (std::uint64_t index = 0; index < 3 * tasks; ++index)
    stack.queue->submit(waiting.emplace_back(index * 100, pattern(100, index)).io);
  turn(*stack.queue);
  faults.release(1);
  REQUIRE(drive(*stack.queue, [&] { return zeroing.is_complete(); }));

  // Now one of them is under way, and the others have claimed ranges that overlap with it.
  PendingWrite elsewhere(4 * block + 100, pattern(100, 99));
  elsewhere.start(*stack.queue);
  const auto is_elsewhere = [&](const auto& passed) { return std::get<1>(passed) == 4 * block; };
  CHECK(std::ranges::any_of(stack.passed, is_elsewhere));
  CHECK_FALSE(waiting.back().io.is_complete());
  faults.release_all();
  REQUIRE(drive(*stack.queue, [&] { return stack.queue->in_flight() == 0; }));
  for (const auto& write : waiting) CHECK(write.io.result() == 100);
  const bool all_there = read_bytes(*stack.queue, 0, 3 * tasks * 100, block).back() ==
                         waiting.back().memory.copy().back();
  CHECK(all_there);
}

TEST_CASE("zeroes and discards that take long leave tasks to writes") {
  Faults faults;
  MemoryDevice device({.size = device_size, .block_size = block, .zero_alignment = block});
  Stack stack(device, faults, 4);
  faults.hold(Faults::Hold::completions);
  std::deque<TestIo> zeroing;
  for (std::uint64_t index = 0; index < 8; ++index) {
    const auto operation = index % 2 == 0 ? Operation::write_zeroes : Operation::discard;
    stack.queue->submit(zeroing.emplace_back(operation, index * block, block));
  }
  PendingWrite write(9 * block, pattern(block, 1));
  stack.queue->submit(write.io);
  turn(*stack.queue);
  REQUIRE(faults.wait_for_held(3));
  CHECK(stack.passed.size() == 3);
  CHECK(std::get<0>(stack.passed.back()) == Operation::write);
  faults.release_all();
  REQUIRE(drive(*stack.queue, [&] { return stack.queue->in_flight() == 0; }));
  for (const auto& io : zeroing) CHECK(io.result() == 0);
}
