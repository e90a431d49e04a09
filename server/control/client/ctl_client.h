// The client's end of a control socket. Blocking; used by `loopnbd ctl`.
#pragma once

#include <string>

#include "engine/file_descriptor.h"

namespace server {

class CtlClient {
 public:
  // Throws std::runtime_error with a message for people.
  explicit CtlClient(std::string socket_path);

  // Sends a line, with its end, and waits for the one that answers it. Throws as above.
  std::string ask(const std::string& request);

 private:
  const std::string socket_path_;
  engine::FileDescriptor socket_;
  std::string received_;  // behind the last answer
};

}  // namespace server
