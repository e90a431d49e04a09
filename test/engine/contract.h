// The promises of every BlockDevice, checked on any of them: to be called from a TEST_CASE, with a
// factory. Each section makes a device of its own. The device reads as zeroes at first.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <string>

#include "engine/block_device.h"

namespace test {

struct ContractSubject {
  std::shared_ptr<void> backing;  // what must live longer than the device; may be absent
  std::shared_ptr<engine::BlockDevice> device;
  // Bytes of what is behind the device (the file's size), to see that nothing grows; may be absent.
  std::function<std::uint64_t()> backing_size;
};

struct Contract {
  std::string name;
  // A device of `size` bytes, full of zeroes. Called several times.
  std::function<ContractSubject(std::uint64_t size)> make;
  // The sizes that can be made are the multiples of this: 1 for files, 512 for loop devices.
  std::uint64_t size_unit = 1;
};

// Runs all of it. Uses SECTIONs: call it once in a TEST_CASE.
void check_contract(const Contract& contract);

}  // namespace test
