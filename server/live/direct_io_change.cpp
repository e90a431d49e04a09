#include "server/live/direct_io_change.h"

#include <fmt/format.h>

#include "server/base/user_error.h"

namespace server {

ExportConfig DirectIoChange::configure(const Export& target) {
  auto config = target.config();
  path_ = target.path();
  config.path = path_;
  config.direct_io = on_ ? engine::DirectIo::on : engine::DirectIo::off;
  config.size = target.device()->size();
  return config;
}

void DirectIoChange::check(const engine::BlockDevice& device,
                           const engine::BlockDevice& old) const {
  check_same_window(path_, device, old);
  if (device.size() != old.size())
    throw UserError(fmt::format("{} has {} bytes for the export by now, after {}: resize it", path_,
                                device.size(), old.size()));
}

std::string DirectIoChange::describe(const Export& target) const {
  return fmt::format("{} I/O from now on", target.device()->mode());
}

}  // namespace server
