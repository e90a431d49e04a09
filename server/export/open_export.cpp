#include "server/export/open_export.h"

#include <fmt/format.h>

#include <string_view>
#include <utility>

#include "engine/open_device.h"
#include "server/base/log.h"
#include "server/base/user_error.h"
#include "server/export/partition.h"

namespace server {
namespace {

// Without a look at the partition, which only reading the disk tells.
engine::FileSpec spec_of(const ExportConfig& config) {
  return engine::FileSpec{.path = config.path,
                          .read_only = config.read_only,
                          .direct_io = config.direct_io,
                          .offset = config.offset,
                          .size = config.size,
                          .lock = config.lock};
}

}  // namespace

std::shared_ptr<engine::BlockDevice> open_export_device(const ExportConfig& config,
                                                        const engine::OpenContext& context) {
  auto spec = spec_of(config);
  if (!config.partition.empty()) {
    const auto partition = find_partition(config.path, config.partition);
    spec.offset = partition.offset;
    spec.size = partition.size;
  }
  return engine::open_device(spec, context);
}

std::shared_ptr<engine::BlockDevice> open_export(const ExportConfig& config,
                                                 engine::OpenContext context) {
  context.report = [name = config.name](std::string_view event) {
    log::warn("export \"{}\": {}", name, event);
  };
  const auto refuse = [&](std::string_view key, const std::exception& error) {
    return UserError(
        config.at_place(key, fmt::format("export \"{}\": {}", config.name, error.what())));
  };
  try {
    return open_export_device(config, context);
  } catch (const PartitionError& error) {
    throw refuse("partition", error);
  } catch (const engine::OpenError& error) {
    throw refuse(error.option(), error);
  }
}

engine::SandboxNeeds sandbox_needs(const std::vector<ExportConfig>& exports) {
  auto all = engine::SandboxNeeds{};
  for (const auto& config : exports) {
    const auto needs = engine::sandbox_needs(spec_of(config));
    all.io_uring |= needs.io_uring;
    all.outgoing_tcp |= needs.outgoing_tcp;
  }
  return all;
}

}  // namespace server
