// The kernel's loop devices, which make disks of files and take no lock of them.
#pragma once

#include <optional>
#include <string>

#include "engine/file/backing_file.h"

namespace engine {

struct LoopDeviceOver {
  std::string path;  // /dev/loopN
  bool read_only = false;
};

// A loop device over the file, one that can be written if there is one. In a container it is
// found only where this process may open the loop device, or sees the file by the same path. May
// block.
std::optional<LoopDeviceOver> find_loop_device(const FileIdentity& file);

}  // namespace engine
