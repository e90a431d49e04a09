#include "server/config/container_limits.h"

#include <algorithm>
#include <charconv>
#include <fstream>
#include <iterator>
#include <limits>
#include <sstream>
#include <string>
#include <string_view>
#include <vector>

namespace server {
namespace {

namespace fs = std::filesystem;

constexpr int depth_max = 100;  // groups within groups

// A mounted hierarchy: where it is seen, and which of its groups is seen there.
struct Hierarchy {
  fs::path mount_point;
  fs::path group_at_mount_point;
  bool unified = false;                  // v2
  std::vector<std::string> controllers;  // of v1
};

std::vector<std::string> split(const std::string& text, char separator) {
  auto parts = std::vector<std::string>{};
  auto in = std::istringstream(text);
  for (auto part = std::string{}; std::getline(in, part, separator);) parts.push_back(part);
  return parts;
}

// mountinfo (proc(5)): the fifth field is the mount point, the fourth what is mounted there; after
// a "-" come the file system's type, its source and its options.
std::vector<Hierarchy> read_hierarchies(const fs::path& root) {
  auto found = std::vector<Hierarchy>{};
  auto file = std::ifstream(root / "proc/self/mountinfo");
  for (auto line = std::string{}; std::getline(file, line);) {
    const auto fields = split(line, ' ');
    const auto dash = std::ranges::find(fields, "-");
    if (fields.size() < 6 || std::distance(dash, fields.end()) < 4) continue;
    const auto& type = *std::next(dash);
    if (type != "cgroup" && type != "cgroup2") continue;
    found.push_back({.mount_point = fields[4],
                     .group_at_mount_point = fields[3],
                     .unified = type == "cgroup2",
                     .controllers = split(*std::next(dash, 3), ',')});
  }
  return found;
}

// The number at the beginning of a text; nothing for words such as "max".
std::optional<std::uint64_t> number_in(std::string_view text) {
  auto value = std::uint64_t{0};
  const auto [end, failure] = std::from_chars(text.data(), text.data() + text.size(), value);
  if (failure != std::errc{}) return std::nullopt;
  return value;
}

std::string read_line(const fs::path& path) {
  auto file = std::ifstream(path);
  auto line = std::string{};
  std::getline(file, line);
  return line;
}

template <class T>
void lower(std::optional<T>& limit, T value) {
  limit = std::min(limit.value_or(value), value);
}

void apply_memory(ContainerLimits& limits, const std::string& text) {
  // Without a limit, v2 says "max" and v1 the largest multiple of a page.
  constexpr auto unlimited = std::uint64_t{1} << 62;
  const auto bytes = number_in(text);
  if (bytes && *bytes > 0 && *bytes < unlimited) lower(limits.memory, *bytes);
}

void apply_quota(ContainerLimits& limits, std::optional<std::uint64_t> quota,
                 std::optional<std::uint64_t> period) {
  constexpr auto microseconds_max = std::uint64_t{1} << 40;
  if (!quota || !period || *quota == 0 || *period == 0 || *quota > microseconds_max) return;
  const auto processors = (*quota + *period - 1) / *period;
  lower(limits.processors, static_cast<std::uint32_t>(std::min<std::uint64_t>(
                               processors, std::numeric_limits<std::uint32_t>::max())));
}

void apply_group(ContainerLimits& limits, const Hierarchy& hierarchy, const fs::path& folder) {
  const auto has = [&](std::string_view controller) {
    return std::ranges::find(hierarchy.controllers, controller) != hierarchy.controllers.end();
  };
  if (hierarchy.unified) {
    apply_memory(limits, read_line(folder / "memory.max"));
    const auto fields = split(read_line(folder / "cpu.max"), ' ');  // "QUOTA PERIOD"
    if (fields.size() == 2) apply_quota(limits, number_in(fields[0]), number_in(fields[1]));
    return;
  }
  if (has("memory")) apply_memory(limits, read_line(folder / "memory.limit_in_bytes"));
  if (has("cpu"))
    apply_quota(limits, number_in(read_line(folder / "cpu.cfs_quota_us")),
                number_in(read_line(folder / "cpu.cfs_period_us")));
}

// The group's path below the mount point. With a namespace of its own, or a mount of the
// container's group alone, the group is what is mounted.
fs::path below_mount_point(const Hierarchy& hierarchy, const fs::path& group) {
  auto relative = group.lexically_relative(hierarchy.group_at_mount_point);
  if (relative.empty() || relative == "." || *relative.begin() == "..") return {};
  return relative;
}

}  // namespace

ContainerLimits read_container_limits(const fs::path& root) {
  auto limits = ContainerLimits{};
  const auto hierarchies = read_hierarchies(root);
  auto file = std::ifstream(root / "proc/self/cgroup");
  // ID:CONTROLLERS:GROUP; v2 has the ID 0 and no controllers.
  for (auto line = std::string{}; std::getline(file, line);) {
    const auto first = line.find(':');
    const auto second = first == std::string::npos ? first : line.find(':', first + 1);
    if (second == std::string::npos) continue;
    const auto controllers = split(line.substr(first + 1, second - first - 1), ',');
    const auto group = fs::path(line.substr(second + 1));
    for (const auto& hierarchy : hierarchies) {
      const auto same = controllers.empty()
                            ? hierarchy.unified
                            : !hierarchy.unified &&
                                  std::ranges::find_first_of(controllers, hierarchy.controllers) !=
                                      controllers.end();
      if (!same) continue;
      auto below = below_mount_point(hierarchy, group);
      const auto mount_point = root / hierarchy.mount_point.relative_path();
      for (auto depth = 0; depth < depth_max; ++depth) {
        apply_group(limits, hierarchy, mount_point / below);
        if (below.empty()) break;
        below = below.parent_path();
      }
    }
  }
  return limits;
}

}  // namespace server
