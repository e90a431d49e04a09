// Opens what an export is backed by; the only place that knows all backends.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <stdexcept>
#include <string>
#include <string_view>
#include <vector>

#include "engine/block_device.h"

namespace engine {

class BlockingPool;

enum class DirectIo : std::uint8_t {
  automatic,  // direct where the file system can, else buffered with a report
  on,         // direct or an error
  off,        // buffered
};

struct DeviceOptions {
  std::string path;  // regular file or block device
  bool read_only = false;
  DirectIo direct_io = DirectIo::automatic;
  std::uint64_t offset = 0;  // bytes into the file where the window begins; multiple of the block
                             // size in direct mode
  std::optional<std::uint64_t> size = {};  // bytes of the window; nothing: up to the file's end
  // Devices of this process that give way to the new one. Their locks of the same file are no
  // obstacle: they pass over to it.
  std::vector<std::shared_ptr<BlockDevice>> predecessors = {};
  bool lock = true;  // hold an open-file-description lock: shared when read-only, else exclusive
  // One line for people about something that happened to the device later on (a file that shrank, a
  // failed sync). Called from any thread; must not block for long.
  std::function<void(std::string_view)> report = [](std::string_view) {};
};

// What open_device() throws. The message says what was tried, on what, why it failed and what to
// do.
class OpenError : public std::runtime_error {
 public:
  OpenError(std::string_view option, const std::string& message)
      : std::runtime_error(message), option_(option) {}

  // The field of DeviceOptions that is at fault: "path", "offset" or "size".
  std::string_view option() const noexcept { return option_; }

 private:
  std::string_view option_;  // static storage
};

// Throws OpenError or std::runtime_error whose message says what was tried, on what, why it failed
// and what to do. The pool outlives the device.
std::shared_ptr<BlockDevice> open_device(const DeviceOptions& options, BlockingPool& pool);

// Whether both are windows into one file or block device.
bool on_same_file(const BlockDevice& one, const BlockDevice& other) noexcept;
// Whether they also begin at the same byte of it.
bool begin_at_same_byte(const BlockDevice& one, const BlockDevice& other) noexcept;
// Whether the file that has this name by now is the one that the device is a window into.
bool is_file_of(const std::string& path, const BlockDevice& device) noexcept;

}  // namespace engine
