// Opens what an export is backed by; the only place that knows all backends.
#pragma once

#include <memory>

#include "engine/block_device.h"
#include "engine/device_spec.h"

namespace engine {

// Throws OpenError or std::runtime_error whose message says what was tried, on what, why it failed
// and what to do.
std::shared_ptr<BlockDevice> open_device(const DeviceSpec& spec, const OpenContext& context = {});

SandboxNeeds sandbox_needs(const DeviceSpec& spec) noexcept;

}  // namespace engine
