// The claim of a process on /dev/nbdN: a file with a lock that lives as long as the process,
// however that ends. So a device whose file is not locked has lost its process and may be taken
// over.
#pragma once

#include <sys/types.h>

#include <cstdint>
#include <filesystem>
#include <optional>

#include "engine/file_descriptor.h"

namespace server {

// Not that of the server, whose unit removes it.
inline constexpr auto claim_folder = "/run/loopnbd-attach";

class DeviceClaim {
 public:
  // Nothing: another process has it. Makes the folder. Throws std::runtime_error.
  static std::optional<DeviceClaim> take(std::uint32_t index,
                                         const std::filesystem::path& folder = claim_folder);

  // Leaves a note for a process that has to take over from this one.
  void record(std::uint32_t connections) const;
  // The note of the last process; nothing when there was none.
  std::optional<std::uint32_t> recorded_connections() const;

  // The process that has the claim; nothing when there is none.
  static std::optional<pid_t> owner(std::uint32_t index,
                                    const std::filesystem::path& folder = claim_folder);

 private:
  explicit DeviceClaim(engine::FileDescriptor file) : file_(std::move(file)) {}

  engine::FileDescriptor file_;
};

}  // namespace server
