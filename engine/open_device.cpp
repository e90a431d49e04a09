#include "engine/open_device.h"

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

SandboxNeeds sandbox_needs(const DeviceSpec& spec) noexcept { return std::visit(Needs{}, spec); }

}  // namespace engine
