// Takes from the process what serving does not need, so that who should get hold of it through the
// network gets little: no programs to run, no files to make or remove, no connections of its own.
// Opening any file that its user may open stays possible, for a reload.
#pragma once

#include <string>

#include "engine/device_spec.h"
#include "server/config/config.h"

namespace server {

class Sandbox {
 public:
  // Restricts files (Landlock). Before there is a second thread: those inherit it, others do not.
  // `needs`: what the devices of the configuration have to be left. A reload cannot add to that.
  // Throws std::runtime_error.
  explicit Sandbox(const Config& config, const engine::SandboxNeeds& needs = {});

  // Everything that needs privileges has been opened: becomes `config.user`, forbids the system
  // calls that are not for servers, in all threads, and says in the log what is in force. Throws
  // std::runtime_error with a message for people.
  void close();

 private:
  const bool enabled_;
  const std::string user_;
  const engine::SandboxNeeds needs_;
  std::string files_;  // what was done about files, for the log
};

}  // namespace server
