#include "server/export/status_contexts.h"

#include <array>
#include <string>

#include "proto/constants.h"

namespace server {
namespace {

std::uint32_t allocation_flags(const engine::Extent& extent) {
  return (extent.hole ? proto::allocation_flag::hole : 0) |
         (extent.zero ? proto::allocation_flag::zero : 0);
}

}  // namespace

std::span<const StatusContext> status_contexts() {
  static const auto contexts = std::array{StatusContext{
      .context = {proto::allocation_context_id, std::string(proto::allocation_context_name)},
      .flags_of = allocation_flags}};
  return contexts;
}

}  // namespace server
