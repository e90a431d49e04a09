#include "server/attach/nbd_devices.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <charconv>
#include <fstream>
#include <sstream>
#include <system_error>

#include "engine/file_descriptor.h"

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

// Adds the devices that the device mapper, MD and others have made of the one with this folder.
void add_holders(std::vector<std::string>& uses, const std::filesystem::path& folder,
                 const std::filesystem::path& sys_block) {
  auto failure = std::error_code{};
  for (const auto& entry : std::filesystem::directory_iterator(folder / "holders", failure)) {
    const auto holder = entry.path().filename().string();
    const auto name = read_line(sys_block / holder / "dm/name");
    uses.push_back(fmt::format("/dev/{} is part of /dev/{}{}", folder.filename().string(), holder,
                               name ? fmt::format(" ({})", *name) : ""));
  }
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

bool nbd_device_may_be_connected(std::uint32_t index, const std::filesystem::path& sys_block) {
  auto failure = std::error_code{};
  const auto folder = sys_block / fmt::format("nbd{}", index);
  return !std::filesystem::exists(folder, failure) ||
         std::filesystem::exists(folder / "pid", failure);
}

std::optional<std::string> nbd_device_scheduler(std::uint32_t index,
                                                const std::filesystem::path& sys_block) {
  // All that there are, and the one in use in brackets: "[none] mq-deadline".
  const auto line = read_line(sys_block / fmt::format("nbd{}/queue/scheduler", index));
  if (!line) return std::nullopt;
  const auto begin = line->find('[');
  const auto end = line->find(']');
  if (begin == std::string::npos || end == std::string::npos || end < begin) return std::nullopt;
  return line->substr(begin + 1, end - begin - 1);
}

int set_nbd_device_scheduler(std::uint32_t index, std::string_view name,
                             const std::filesystem::path& sys_block) {
  const auto path = sys_block / fmt::format("nbd{}/queue/scheduler", index);
  const auto file = engine::FileDescriptor(::open(path.c_str(), O_WRONLY | O_CLOEXEC));
  if (!file) return errno;
  return ::write(file.get(), name.data(), name.size()) < 0 ? errno : 0;
}

std::vector<std::string> nbd_device_uses(std::uint32_t index, const std::filesystem::path& mounts,
                                         const std::filesystem::path& swaps,
                                         const std::filesystem::path& sys_block) {
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
  const auto folder = sys_block / fmt::format("nbd{}", index);
  add_holders(uses, folder, sys_block);
  for (const auto partition : nbd_device_partitions(index, sys_block))
    add_holders(uses, folder / fmt::format("nbd{}p{}", index, partition), sys_block);
  return uses;
}

}  // namespace server
