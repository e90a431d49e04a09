#include "engine/open_device.h"

#include "engine/file/aio_queue.h"
#include "engine/file/open_file.h"

namespace engine {
namespace {

struct Opener {
  const OpenContext& context;

  std::shared_ptr<BlockDevice> operator()(const FileSpec& spec) const {
    return open_file(spec, context);
  }
};

struct Needs {
  SandboxNeeds operator()(const FileSpec& /*spec*/) const noexcept { return {}; }
};

}  // namespace

std::shared_ptr<BlockDevice> open_device(const DeviceSpec& spec, const OpenContext& context) {
  return std::visit(Opener{context}, spec);
}

std::string queue_shortage(std::size_t queue_count, std::size_t depth_max) {
  return aio_shortage(queue_count * depth_max);
}

void process_ends() noexcept { leave_aio_contexts(); }

SandboxNeeds sandbox_needs(const DeviceSpec& spec) noexcept { return std::visit(Needs{}, spec); }

}  // namespace engine
