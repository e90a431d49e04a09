// Another size of the window of the same file. New connections get the new size; the clients of an
// export that has become smaller lose their connections, which has to be forced.
#pragma once

#include <cstdint>
#include <optional>
#include <string>

#include "server/live/device_change.h"

namespace server {

class Resize final : public DeviceChange {
 public:
  // `size`: bytes, for which a regular file may be made longer. Absent: all that there is of the
  // file.
  Resize(std::optional<std::uint64_t> size, bool force) : size_(size), force_(force) {}

  ExportConfig configure(const Export& target) override;
  void prepare(const ExportConfig& config, engine::BlockDevice& old) override;
  void roll_back(engine::BlockDevice& old) noexcept override;
  void check(const engine::BlockDevice& device, const engine::BlockDevice& old) const override;
  std::string describe(const Export& target) const override;

 private:
  const std::optional<std::uint64_t> size_;
  const bool force_;
  std::string export_name_;
  std::string path_;
  std::uint64_t size_before_ = 0;  // bytes
};

}  // namespace server
