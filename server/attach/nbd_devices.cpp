#include "server/attach/nbd_devices.h"

#include <fmt/format.h>

#include <algorithm>
#include <charconv>
#include <fstream>
#include <sstream>
#include <system_error>

namespace server {
namespace {

constexpr std::uint64_t sector_size = 512;  // bytes: the unit of "size" in sysfs

std::optional<std::string> read_line(const std::filesystem::path& path) {
  auto file = std::ifstream(path);
  auto line = std::string();
  if (!std::getline(file, line)) return std::nullopt;
  return line;
}

std::uint64_t read_number(const std::filesystem::path& path) {
  const auto line = read_line(path).value_or("0");
  auto number = std::uint64_t{0};
  std::from_chars(line.data(), line.data() + line.size(), number);
  return number;
}

// "/dev/nbd7" or a partition of it, "/dev/nbd7p2".
bool is_part_of(std::string_view device, std::uint32_t index) {
  const auto whole = nbd_device_path(index);
  if (!device.starts_with(whole)) return false;
  const auto rest = device.substr(whole.size());
  return rest.empty() || rest.front() == 'p';
}

}  // namespace

std::vector<NbdDevice> list_nbd_devices(const std::filesystem::path& sys_block) {
  auto devices = std::vector<NbdDevice>{};
  auto failure = std::error_code{};
  for (const auto& entry : std::filesystem::directory_iterator(sys_block, failure)) {
    const auto name = entry.path().filename().string();
    const auto index = name.starts_with("nbd") ? parse_nbd_device(name) : std::nullopt;
    if (!index) continue;
    auto device = NbdDevice{};
    device.index = *index;
    device.connected = std::filesystem::exists(entry.path() / "pid", failure);
    device.size = read_number(entry.path() / "size") * sector_size;
    device.block_size =
        static_cast<std::uint32_t>(read_number(entry.path() / "queue/logical_block_size"));
    device.read_only = read_number(entry.path() / "ro") != 0;
    if (device.connected) device.backend = read_line(entry.path() / "backend");
    devices.push_back(std::move(device));
  }
  std::ranges::sort(devices, {}, &NbdDevice::index);
  return devices;
}

std::optional<std::uint32_t> parse_nbd_device(std::string_view name) {
  if (name.starts_with("/dev/")) name.remove_prefix(5);
  if (name.starts_with("nbd")) name.remove_prefix(3);
  constexpr auto index_max = (std::uint32_t{1} << 20) - 1;  // a minor number has 20 bits
  auto index = std::uint32_t{0};
  const auto [end, failure] = std::from_chars(name.data(), name.data() + name.size(), index);
  if (failure != std::errc{} || end != name.data() + name.size() || index > index_max)
    return std::nullopt;
  return index;
}

std::string nbd_device_path(std::uint32_t index) { return fmt::format("/dev/nbd{}", index); }

std::vector<int> nbd_device_partitions(std::uint32_t index,
                                       const std::filesystem::path& sys_block) {
  auto numbers = std::vector<int>{};
  auto failure = std::error_code{};
  const auto folder = sys_block / fmt::format("nbd{}", index);
  for (const auto& entry : std::filesystem::directory_iterator(folder, failure))
    if (const auto number = read_number(entry.path() / "partition"); number > 0)
      numbers.push_back(static_cast<int>(number));
  std::ranges::sort(numbers);
  return numbers;
}

std::vector<std::string> nbd_device_uses(std::uint32_t index, const std::filesystem::path& mounts,
                                         const std::filesystem::path& swaps) {
  auto uses = std::vector<std::string>{};
  auto line = std::string();
  for (auto file = std::ifstream(mounts); std::getline(file, line);) {
    auto words = std::istringstream(line);
    auto device = std::string();
    auto place = std::string();
    words >> device >> place;
    if (is_part_of(device, index))
      uses.push_back(fmt::format("{} is mounted on {}", device, place));
  }
  for (auto file = std::ifstream(swaps); std::getline(file, line);) {
    const auto device = line.substr(0, line.find_first_of(" \t"));
    if (is_part_of(device, index)) uses.push_back(fmt::format("{} is used as swap", device));
  }
  return uses;
}

}  // namespace server
