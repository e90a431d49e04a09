// Opens a regular file or block device: finds out how it can be driven, locks the window that is
// served, and makes a FileDevice of it.
#pragma once

#include <memory>

#include "engine/block_device.h"
#include "engine/device_spec.h"

namespace engine {

// Throws OpenError or std::runtime_error.
std::shared_ptr<BlockDevice> open_file(const FileSpec& spec, const OpenContext& context);

}  // namespace engine
