#include "test/double/faulty_queue.h"

#include <algorithm>
#include <catch2/catch.hpp>
#include <cerrno>
#include <deque>
#include <memory>
#include <string>
#include <thread>
#include <vector>

#include "test/double/faulty_device.h"
#include "test/double/memory_device.h"
#include "test/engine/contract.h"
#include "test/engine/test_io.h"

using namespace engine;
using namespace test;

namespace {

std::shared_ptr<MemoryDevice> memory_device(std::uint64_t size, std::uint32_t block_size = 512) {
  return std::make_shared<MemoryDevice>(
      MemoryDeviceOptions{.size = size, .block_size = block_size});
}

struct Batch {
  explicit Batch(std::size_t count, Operation operation = Operation::read) {
    for (std::size_t index = 0; index < count; ++index) {
      memories.emplace_back(index * 512, 512, 512);
      ios.emplace_back(operation, index * 512, 512, memories.back().bytes());
      ios.back().on_complete = [this, index] { order.push_back(index); };
    }
  }
  void submit_to(IoQueue& queue) {
    for (TestIo& io : ios) queue.submit(io);
  }

  std::deque<IoMemory> memories;
  std::deque<TestIo> ios;
  std::vector<std::size_t> order;
};

}  // namespace

TEST_CASE("delays and a random order keep the contract") {
  Faults faults({.seed = 7, .delay_percent = 30, .delay_harvests_max = 4, .reorder = true});
  Contract contract;
  contract.name = "memory, late and out of order";
  contract.make = [&](std::uint64_t size) {
    ContractSubject subject;
    subject.device = std::make_shared<FaultyDevice>(memory_device(size, 4096), faults);
    return subject;
  };
  check_contract(contract);
}

TEST_CASE("chosen operations fail with the chosen error, and do nothing") {
  Faults faults;
  FaultyDevice device(memory_device(8192), faults);
  auto queue = device.make_queue(4);
  faults.fail_next(Operation::write, ENOSPC, 2);
  CHECK(write_bytes(*queue, 0, pattern(512, 1), 512) == -ENOSPC);
  CHECK(read_bytes(*queue, 0, 512, 512) == std::vector<std::byte>(512));
  CHECK(write_bytes(*queue, 0, pattern(512, 1), 512) == -ENOSPC);
  CHECK(write_bytes(*queue, 0, pattern(512, 1), 512) == 512);
  CHECK(read_bytes(*queue, 0, 512, 512) == pattern(512, 1));
  CHECK(faults.failures() == 2);
}

TEST_CASE("failed syncs fail flushes, FUA and the device's sync until they are repaired") {
  Faults faults;
  FaultyDevice device(memory_device(8192), faults);
  auto queue = device.make_queue(4);
  faults.fail_syncs(EIO);
  TestIo flush(Operation::flush, 0, 0);
  CHECK(run(*queue, flush) == -EIO);
  CHECK(write_bytes(*queue, 0, pattern(512, 1), 512, true) == -EIO);
  CHECK(write_bytes(*queue, 512, pattern(512, 2), 512) == 512);
  CHECK(device.sync() == -EIO);
  faults.fail_syncs(0);
  TestIo again(Operation::flush, 0, 0);
  CHECK(run(*queue, again) == 0);
  CHECK(device.sync() == 0);
}

TEST_CASE("a torn write leaves whole blocks of its first part and fails") {
  Faults faults;
  FaultyDevice device(memory_device(8192), faults);
  auto queue = device.make_queue(4);
  faults.tear_next_write();
  CHECK(write_bytes(*queue, 100, pattern(4096, 1), 512) == -EIO);
  const auto found = read_bytes(*queue, 0, 8192, 512);
  std::vector<std::byte> expected(8192);
  const auto wanted = pattern(4096, 1);
  std::copy(wanted.begin(), wanted.begin() + (2048 - 100), expected.begin() + 100);
  CHECK((found == expected));
  faults.tear_next_write();
  CHECK(write_bytes(*queue, 5000, pattern(100, 2), 512) == -EIO);  // nothing of it is left
  CHECK((read_bytes(*queue, 0, 8192, 512) == expected));
}

TEST_CASE("held completions come when they are released, and not before") {
  Faults faults;
  FaultyDevice device(memory_device(65536), faults);
  auto queue = device.make_queue(16);
  faults.hold(Faults::Hold::completions);
  Batch batch(10);
  batch.submit_to(*queue);
  queue->flush();
  for (int turn = 0; turn < 5; ++turn) {
    queue->clear_wakeup();
    CHECK(queue->harvest() == 0);
  }
  CHECK(faults.wait_for_held(10));
  CHECK_FALSE(is_readable(queue->wakeup_fd()));  // nobody spins while operations are held

  faults.release(3);
  CHECK(is_readable(queue->wakeup_fd()));
  CHECK(queue->harvest() == 3);
  CHECK(batch.order.size() == 3);
  faults.release_all();
  CHECK(drive(*queue, [&] { return batch.order.size() == 10; }));
  CHECK(queue->in_flight() == 0);
}

TEST_CASE("a write that is held before its start has not changed anything") {
  Faults faults;
  FaultyDevice device(memory_device(65536), faults);
  auto queue = device.make_queue(16);
  auto other = device.make_queue(16);
  const IoMemory memory(0, 512, 512);
  memory.bytes()[0] = std::byte{77};
  TestIo write(Operation::write, 0, 512, memory.bytes());
  faults.hold(Faults::Hold::starts);
  queue->submit(write);
  queue->flush();
  queue->harvest();
  REQUIRE(faults.wait_for_held(1));
  faults.hold(Faults::Hold::completions);  // for what comes from now on: starts go on
  faults.hold(Faults::Hold::nothing);
  CHECK(read_bytes(*other, 0, 1, 512) == std::vector<std::byte>(1));
  CHECK(drive(*queue, [&] { return write.is_complete(); }));
  CHECK(read_bytes(*other, 0, 1, 512) == std::vector<std::byte>(1, std::byte{77}));
}

TEST_CASE("another thread can wait for what is held and release it") {
  Faults faults;
  FaultyDevice device(memory_device(65536), faults);
  faults.hold(Faults::Hold::completions);
  bool all = false;
  std::thread worker([&] {
    auto queue = device.make_queue(16);
    Batch batch(6);
    batch.submit_to(*queue);
    all = drive(*queue, [&] { return batch.order.size() == 6; });
  });
  const bool held = faults.wait_for_held(6);
  faults.release_all();
  worker.join();
  CHECK(held);
  CHECK(all);
}

TEST_CASE("a seed decides the order and the errors") {
  const auto outcome = [](std::uint64_t seed) {
    Faults faults({.seed = seed, .delay_percent = 50, .error_percent = 30, .reorder = true});
    FaultyDevice device(memory_device(65536), faults);
    auto queue = device.make_queue(64);
    Batch batch(40);
    batch.submit_to(*queue);
    REQUIRE(drive(*queue, [&] { return batch.order.size() == 40; }));
    std::vector<std::int64_t> found(batch.order.begin(), batch.order.end());
    for (const TestIo& io : batch.ios) found.push_back(io.result());
    return found;
  };
  const auto first = outcome(1);
  CHECK(first == outcome(1));
  CHECK(first != outcome(2));
  CHECK(std::count(first.begin(), first.end(), -EIO) > 0);
  CHECK(std::count(first.begin(), first.end(), 512) > 0);
  CHECK_FALSE(std::is_sorted(first.begin(), first.begin() + 40));
}
