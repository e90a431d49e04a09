// Opens what an export is backed by; the only place that knows all backends.
#pragma once

#include <cstddef>
#include <memory>
#include <string>

#include "engine/block_device.h"
#include "engine/device_spec.h"

namespace engine {

// Throws OpenError or std::runtime_error whose message says what was tried, on what, why it failed
// and what to do.
std::shared_ptr<BlockDevice> open_device(const DeviceSpec& spec, const OpenContext& context = {});

// Why so many queues of direct devices, each `depth_max` deep, could not all have what they need of
// the kernel at once, so that some would be slower, with what to do; empty: they could.
std::string queue_shortage(std::size_t queue_count, std::size_t depth_max);

// The process ends as soon as its devices are gone: from now on, what the kernel does by itself
// when a process ends is left to it.
void process_ends() noexcept;

SandboxNeeds sandbox_needs(const DeviceSpec& spec) noexcept;

}  // namespace engine
