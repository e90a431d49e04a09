// Opens the device that an export's configuration asks for. The one caller of the engine's
// open_device(); used by whoever makes exports, on any thread that may block.
#pragma once

#include <memory>
#include <vector>

#include "engine/block_device.h"
#include "engine/device_spec.h"
#include "server/config/config.h"

namespace server {

// Throws engine::OpenError, PartitionError or std::runtime_error with a message for people.
std::shared_ptr<engine::BlockDevice> open_export_device(const ExportConfig& config,
                                                        const engine::OpenContext& context);

// The same for an export of the server: refusals are UserErrors that name the export and the place
// in the configuration, and what happens to the device later is logged under its name, whatever
// `context` reports to.
std::shared_ptr<engine::BlockDevice> open_export(const ExportConfig& config,
                                                 engine::OpenContext context = {});

// The rights that the sandbox has to leave to the devices of all of them. Opens nothing.
engine::SandboxNeeds sandbox_needs(const std::vector<ExportConfig>& exports);

}  // namespace server
