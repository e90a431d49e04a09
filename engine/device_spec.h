// The values that a device is opened from: which backend, and with what. They are made from the
// configuration and given to open_device().
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <stdexcept>
#include <string>
#include <string_view>
#include <variant>
#include <vector>

namespace engine {

class BlockDevice;
class SyncErrors;

enum class DirectIo : std::uint8_t {
  automatic,  // direct where the file system can, else buffered with a report
  on,         // direct or an error
  off,        // buffered
};

struct FileSpec {
  std::string path;  // regular file or block device
  bool read_only = false;
  DirectIo direct_io = DirectIo::automatic;
  // Bytes into the file where the window begins; multiple of the block size in direct mode.
  std::uint64_t offset = 0;
  std::optional<std::uint64_t> size = {};  // bytes of the window; nothing: up to the file's end
  bool lock = true;  // hold an open-file-description lock: shared when read-only, else exclusive
};

using DeviceSpec = std::variant<FileSpec>;

// The surroundings of a device that is opened.
struct OpenContext {
  // Devices of this process that give way to the new one. Their locks of the same store are no
  // obstacle: BlockDevice::claim() and commit() pass them over to it.
  std::vector<std::shared_ptr<BlockDevice>> predecessors = {};
  // The failed syncs that the device heeds and adds to. nullptr: it knows of its own only.
  std::shared_ptr<SyncErrors> sync_errors = nullptr;
  // The threads that the device may need are there from the start and stay: somebody writes through
  // it when there is no memory left.
  bool resident = false;
  // One line for people about something that happened to the device later on (a file that shrank, a
  // failed sync). Called from any thread; must not block for long.
  std::function<void(std::string_view)> report = [](std::string_view) {};
};

// Thrown by open_device(). The message says what was tried, on what, why it failed and what to
// do.
class OpenError : public std::runtime_error {
 public:
  OpenError(std::string_view option, const std::string& message)
      : std::runtime_error(message), option_(option) {}

  // The field of the spec that is at fault: "path", "offset" or "size".
  std::string_view option() const noexcept { return option_; }

 private:
  std::string_view option_;  // static storage
};

// The rights that the sandbox of the process has to leave to a device, beside opening files and the
// system calls of ordinary file I/O.
struct SandboxNeeds {
  bool io_uring = false;
  bool outgoing_tcp = false;
};

}  // namespace engine
