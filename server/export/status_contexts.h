// The metadata contexts that exports offer: what each of them says of an extent of the device.
// Constant; any thread.
#pragma once

#include <cstdint>
#include <span>

#include "engine/io.h"
#include "proto/meta_context.h"

namespace server {

struct StatusContext {
  proto::MetaContext context;
  std::uint32_t (*flags_of)(const engine::Extent& extent);
};

// base:allocation, and no other so far.
std::span<const StatusContext> status_contexts();

}  // namespace server
