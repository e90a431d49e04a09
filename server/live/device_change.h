// An operator's change of the device under an export while its clients stay attached. A class
// derived from it says which device takes the place of the old one, and on what terms;
// DeviceExchange does it. One object is one change.
#pragma once

#include <string>

#include "engine/block_device.h"
#include "server/config/config.h"
#include "server/export/export.h"

namespace server {

class DeviceChange {
 public:
  virtual ~DeviceChange() = default;

  // The device to be opened. On the accepting thread. Throws UserError when the export does not
  // allow the change.
  virtual ExportConfig configure(const Export& target) = 0;
  // Makes the file fit what configure() has given, before it is opened. May block; throws
  // UserError.
  virtual void prepare(const ExportConfig&, engine::BlockDevice& /*old*/) {}
  // Throws UserError when `device` must not take the place of `old`. May block.
  virtual void check(const engine::BlockDevice& device, const engine::BlockDevice& old) const = 0;
  // Undoes prepare(): the change has failed. May block.
  virtual void roll_back(engine::BlockDevice& /*old*/) noexcept {}
  // The device is in its place. On the accepting thread.
  virtual void commit(Export&) noexcept {}
  // The export as it is now, for the log.
  virtual std::string describe(const Export& target) const = 0;
};

// For a change that keeps the bytes that clients know. Throws UserError when `path` is another
// file than `old` serves, or begins elsewhere in it.
void check_same_window(const std::string& path, const engine::BlockDevice& device,
                       const engine::BlockDevice& old);
[[noreturn]] void refuse_another_file(const std::string& path);

}  // namespace server
