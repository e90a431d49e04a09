#include "server/live/device_change.h"

#include <fmt/format.h>

#include "server/base/user_error.h"

namespace server {

void refuse_another_file(const std::string& path) {
  throw UserError(
      fmt::format("{} is another file, or another partition of it, than the one that is served: "
                  "remove the export and add it again",
                  path));
}

void check_same_window(const std::string& path, const engine::BlockDevice& device,
                       const engine::BlockDevice& old) {
  if (!device.same_window(old)) refuse_another_file(path);
}

}  // namespace server
