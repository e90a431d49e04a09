#include "test/double/memory_device.h"

#include <array>
#include <catch2/catch.hpp>
#include <cerrno>
#include <memory>
#include <string>

#include "test/engine/contract.h"
#include "test/engine/test_io.h"

using namespace engine;
using namespace test;

namespace {

void check_with(const MemoryDeviceOptions& wanted) {
  Contract contract;
  contract.name = "memory, blocks of " + std::to_string(wanted.block_size);
  contract.make = [wanted](std::uint64_t size) {
    MemoryDeviceOptions options = wanted;
    options.size = size;
    ContractSubject subject;
    subject.device = std::make_shared<MemoryDevice>(options);
    return subject;
  };
  check_contract(contract);
}

}  // namespace

TEST_CASE("a memory device without blocks keeps the contract") { check_with({.block_size = 1}); }

TEST_CASE("a memory device of 512-byte blocks keeps the contract") {
  check_with({.block_size = 512});
}

TEST_CASE("a memory device of 4096-byte blocks keeps the contract") {
  check_with({.block_size = 4096});
}

TEST_CASE("a memory device of large blocks keeps the contract") {
  check_with({.block_size = 16384, .zero_alignment = 65536});
}

TEST_CASE("a memory device that cannot zero fast keeps the contract") {
  check_with({.block_size = 4096, .zero_alignment = 8192, .zeroes_fast = false});
}

TEST_CASE("a read-only memory device refuses every change") {
  MemoryDevice device({.size = 8192, .read_only = true});
  auto queue = device.make_queue(4);
  const IoMemory memory(0, 512, 1);
  for (const auto operation : {Operation::write, Operation::discard, Operation::write_zeroes}) {
    TestIo io(operation, 0, 512, memory.bytes());
    CHECK(run(*queue, io) == -EPERM);
  }
  TestIo read(Operation::read, 0, 512, memory.bytes());
  CHECK(run(*queue, read) == 512);
  CHECK(device.geometry().read_only);
}

TEST_CASE("a raw queue refuses what direct I/O would refuse") {
  MemoryDevice device({.size = 3 * 4096 + 100, .block_size = 4096});
  auto queue = device.make_raw_queue(4);
  const IoMemory memory(0, 8192, 4096);
  const auto result = [&](Operation operation, std::uint64_t offset, std::uint64_t length,
                          std::size_t lead) {
    TestIo io(operation, offset, length, memory.bytes() + lead);
    return run(*queue, io);
  };
  CHECK(result(Operation::read, 4096, 4096, 0) == 4096);
  CHECK(result(Operation::read, 512, 4096, 0) == -EINVAL);
  CHECK(result(Operation::write, 0, 512, 0) == -EINVAL);
  CHECK(result(Operation::write, 0, 4096, 512) == -EINVAL);
  CHECK(result(Operation::write, 8192, 4096 + 100, 0) == -EINVAL);  // in both parts
  CHECK(result(Operation::write, 3 * 4096 + 1, 50, 1) == 50);
  CHECK(result(Operation::write_zeroes, 4096, 512, 0) == -EINVAL);
  CHECK(result(Operation::read, 3 * 4096, 101, 0) == -EINVAL);  // beyond the end
}

TEST_CASE("a memory device reports discarded and zeroed units as holes") {
  MemoryDevice device({.size = 4 * 4096, .block_size = 512});
  auto queue = device.make_queue(4);
  REQUIRE(write_bytes(*queue, 0, pattern(4 * 4096, 1), 512) == 4 * 4096);
  std::array<Extent, 4> extents;
  const auto status = [&] {
    TestIo io(Operation::block_status, 0, 4 * 4096);
    io.extents = extents;
    return run(*queue, io);
  };
  CHECK(status() == 1);
  CHECK_FALSE(extents[0].hole);

  TestIo discard(Operation::discard, 4000, 4096 + 200);
  REQUIRE(run(*queue, discard) == 0);
  REQUIRE(status() == 3);
  CHECK(extents[0].length == 4096);
  CHECK(extents[1].length == 4096);
  CHECK(extents[1].hole);
  CHECK(extents[1].zero);

  TestIo zeroes(Operation::write_zeroes, 4096, 4096);
  zeroes.no_hole = true;
  REQUIRE(run(*queue, zeroes) == 0);
  CHECK(status() == 1);
}
