// Opens a regular file or block device: finds out how it can be driven, locks the window that is
// served, and makes a FileDevice of it.
#pragma once

#include <memory>

#include "engine/block_device.h"
#include "engine/device_spec.h"

namespace engine {

class BlockingPool;

// Throws OpenError or std::runtime_error. The pool outlives the device.
std::shared_ptr<BlockDevice> open_file(const FileSpec& spec, BlockingPool& pool,
                                       const OpenContext& context);

}  // namespace engine
