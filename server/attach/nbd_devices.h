// The kernel's NBD devices as sysfs shows them. Any thread.
#pragma once

#include <cstdint>
#include <filesystem>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

namespace server {

struct NbdDevice {
  std::uint32_t index = 0;       // N of /dev/nbdN
  bool connected = false;        // has sockets, dead or alive
  std::uint64_t size = 0;        // bytes
  std::uint32_t block_size = 0;  // bytes
  bool read_only = false;
  std::optional<std::string> backend;  // what whoever connected it says is behind it
};

// In the order of their indices. `sys_block` is the folder "block" of sysfs.
std::vector<NbdDevice> list_nbd_devices(const std::filesystem::path& sys_block = "/sys/block");

// The index in "/dev/nbd7", "nbd7" or "7". Nothing: it is no name of an NBD device.
std::optional<std::uint32_t> parse_nbd_device(std::string_view name);

std::string nbd_device_path(std::uint32_t index);

// The numbers of its partitions.
std::vector<int> nbd_device_partitions(std::uint32_t index,
                                       const std::filesystem::path& sys_block = "/sys/block");

// False: sysfs has the device, and it is not connected.
bool nbd_device_may_be_connected(std::uint32_t index,
                                 const std::filesystem::path& sys_block = "/sys/block");

// The I/O scheduler in use, such as "none" or "mq-deadline". Nothing: sysfs does not say.
std::optional<std::string> nbd_device_scheduler(
    std::uint32_t index, const std::filesystem::path& sys_block = "/sys/block");

// Waits for the requests in flight. Returns 0 or an errno.
int set_nbd_device_scheduler(std::uint32_t index, std::string_view name,
                             const std::filesystem::path& sys_block = "/sys/block");

// Where the device or one of its partitions is mounted or used as swap, as /proc shows it, and the
// devices that are made of them, as sysfs does. Empty when that is nowhere.
std::vector<std::string> nbd_device_uses(std::uint32_t index,
                                         const std::filesystem::path& mounts = "/proc/mounts",
                                         const std::filesystem::path& swaps = "/proc/swaps",
                                         const std::filesystem::path& sys_block = "/sys/block");

}  // namespace server
