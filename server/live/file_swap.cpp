#include "server/live/file_swap.h"

#include <fmt/format.h>

#include "server/base/user_error.h"

namespace server {

ExportConfig FileSwap::configure(const Export& target) {
  export_name_ = target.name();
  if (!target.device()->geometry().read_only)
    throw UserError(
        fmt::format("export \"{}\" is writable: only the file of a read-only export can be swapped",
                    export_name_));
  auto config = target.config();
  config.path = path_;
  return config;
}

void FileSwap::check(const engine::BlockDevice& device, const engine::BlockDevice& old) const {
  if (device.size() != old.size())
    throw UserError(fmt::format("{} has {} bytes, and the clients of export \"{}\" know {}", path_,
                                device.size(), export_name_, old.size()));
}

void FileSwap::commit(Export& target) noexcept { target.set_path(std::move(path_)); }

std::string FileSwap::describe(const Export& target) const {
  return fmt::format("{} from now on", target.path());
}

}  // namespace server
