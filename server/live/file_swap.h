// Another file, of the same size, under a read-only export.
#pragma once

#include <string>
#include <utility>

#include "server/live/device_change.h"

namespace server {

class FileSwap final : public DeviceChange {
 public:
  explicit FileSwap(std::string path) : path_(std::move(path)) {}

  ExportConfig configure(const Export& target) override;
  void check(const engine::BlockDevice& device, const engine::BlockDevice& old) const override;
  void commit(Export& target) noexcept override;
  std::string describe(const Export& target) const override;

 private:
  std::string export_name_;
  std::string path_;
};

}  // namespace server
