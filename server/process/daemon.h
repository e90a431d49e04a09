// A process that goes on in the background once it is ready: whoever started it waits until then,
// and gets its messages and exit status when it never is. In the foreground it tells systemd.
#pragma once

#include "engine/file_descriptor.h"

namespace server {

class Daemon {
 public:
  // In the background: returns in a child; the calling process waits for it and ends as it does.
  // Call it before there are threads. Throws std::system_error.
  explicit Daemon(bool foreground);

  // Lets go of the terminal and of whoever waits; tells systemd (NOTIFY_SOCKET), if it asked.
  void ready();
  // Tells systemd that the end has begun.
  void stopping() const noexcept;

  bool in_foreground() const noexcept { return foreground_; }

 private:
  const bool foreground_;
  engine::FileDescriptor waiting_;  // a pipe to the process that waits
};

}  // namespace server
