// Finds one partition of a disk image or block device, by number, label or UUID, so that it can be
// exported as a window. Used while exports are opened; keeps nothing.
#pragma once

#include <cstdint>
#include <stdexcept>
#include <string>
#include <string_view>

namespace server {

// The message says what was tried, on what, why it failed and what to do; it lists the partitions
// that there are.
class PartitionError : public std::runtime_error {
  using std::runtime_error::runtime_error;
};

struct Partition {
  std::uint32_t number = 0;
  std::uint64_t offset = 0;  // bytes
  std::uint64_t size = 0;    // bytes
};

// `wanted` is a number ("2", as in /dev/sda2), or else the partition's label or UUID. The file is
// only read. Throws PartitionError.
Partition find_partition(const std::string& path, std::string_view wanted);

}  // namespace server
