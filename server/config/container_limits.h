// The limits that the control groups of this process (cgroup v1, v2 or both) set: a container's
// memory and processors. They are read once, at start.
#pragma once

#include <cstdint>
#include <filesystem>
#include <optional>

namespace server {

struct ContainerLimits {
  std::optional<std::uint64_t> memory;      // bytes; nothing: no limit, or none that can be read
  std::optional<std::uint32_t> processors;  // of the CPU quota, rounded up

  bool operator==(const ContainerLimits&) const = default;
};

// The smallest limits on the way from the process's groups up to the roots of their hierarchies.
// `root` is / but in tests: below it, proc/self/cgroup and proc/self/mountinfo say where the files
// are. A value that is missing or makes no sense is no limit.
ContainerLimits read_container_limits(const std::filesystem::path& root = "/");

}  // namespace server
