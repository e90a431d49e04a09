#include "server/live/resize.h"

#include <fmt/format.h>

#include <cerrno>
#include <cstring>

#include "server/base/log.h"
#include "server/base/user_error.h"

namespace server {
namespace {

// The store of a writable export becomes long enough for `size` bytes of it.
void lengthen(const ExportConfig& config, engine::BlockDevice& old, std::uint64_t size) {
  if (config.read_only) return;
  const int error = old.grow(size);
  if (error == 0 || error == -ENOENT) return;  // opening it says what there is to say
  if (error == -ESTALE) refuse_another_file(config.path);
  throw UserError(fmt::format("cannot make {} long enough for {} bytes of export \"{}\": {}",
                              config.path, size, config.name, std::strerror(-error)));
}

}  // namespace

ExportConfig Resize::configure(const Export& target) {
  auto config = target.config();
  export_name_ = target.name();
  if (size_ && !config.partition.empty())
    throw UserError(fmt::format(
        "export \"{0}\" is a partition: change the partition table, then: loopnbd ctl resize {0}",
        export_name_));
  path_ = target.path();
  config.path = path_;
  config.direct_io = target.device()->path() == engine::BlockDevice::Path::direct
                         ? engine::DirectIo::on
                         : engine::DirectIo::off;
  config.size = size_;
  size_before_ = target.device()->size();
  return config;
}

void Resize::prepare(const ExportConfig& config, engine::BlockDevice& old) {
  if (size_ && *size_ > size_before_) lengthen(config, old, *size_);
}

void Resize::roll_back(engine::BlockDevice& old) noexcept {
  if (const int error = old.undo_grow(); error != 0)
    log::warn("export \"{}\": {} stays as long as it was made: {}", export_name_, path_,
              std::strerror(-error));
}

void Resize::check(const engine::BlockDevice& device, const engine::BlockDevice& old) const {
  check_same_window(path_, device, old);
  if (device.size() < old.size() && !force_)
    throw UserError(fmt::format(
        "export \"{}\" would lose its last {} bytes, and its clients their connections: --force "
        "does it",
        export_name_, old.size() - device.size()));
}

std::string Resize::describe(const Export& target) const {
  return fmt::format("{} bytes from now on, after {}", target.device()->size(), size_before_);
}

}  // namespace server
