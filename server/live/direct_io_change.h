// The same bytes, served past the page cache or through it.
#pragma once

#include "server/live/device_change.h"

namespace server {

class DirectIoChange final : public DeviceChange {
 public:
  explicit DirectIoChange(bool on) : on_(on) {}

  ExportConfig configure(const Export& target) override;
  void check(const engine::BlockDevice& device, const engine::BlockDevice& old) const override;
  std::string describe(const Export& target) const override;

 private:
  const bool on_;
  std::string path_;
};

}  // namespace server
