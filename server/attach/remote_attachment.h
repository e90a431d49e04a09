// `loopnbd attach nbd://…`: the kernel talks to the server itself; this process negotiates the
// connections, hands them over, and makes new ones when they die.
//
// Guarantee for the death of connections: the requests in flight stay with the kernel, which sends
// them again. A write may then be done twice, but the old one must not land after a newer one. So
// when one connection has died, all are ended: what they have not sent is dropped, and the server
// (ours does) serves a new connection only when it is done with what the dead ones had sent. The
// kernel alone would send the requests on a connection that is still alive, past that rule.
#pragma once

#include <chrono>
#include <cstdint>
#include <string>
#include <vector>

#include "engine/file_descriptor.h"
#include "server/attach/attach_command.h"
#include "server/attach/attached_device.h"
#include "server/attach/attachment_loop.h"
#include "server/attach/remote_address.h"
#include "server/attach/remote_connection.h"
#include "server/base/asio.h"
#include "server/process/daemon.h"

namespace server {

class RemoteAttachment {
 public:
  // Connects and attaches. Throws UserError, NbdError or std::runtime_error.
  RemoteAttachment(const Attach& options, Daemon& daemon, RemoteAddress address);

  // Keeps the device connected until it is detached; returns the exit status.
  int run();

 private:
  void attach();
  void take_over();
  engine::FileDescriptor connect();
  bool any_link_dead() const noexcept;
  void check_links();
  void lose_links();
  void reconnect() noexcept;
  bool hand_over();
  void later(std::chrono::milliseconds delay);
  void watch();

  const Attach options_;
  const RemoteAddress address_;
  AttachedDevice device_;
  AttachmentLoop loop_;
  // Of the first connection; later ones must offer as much.
  std::uint64_t size_ = 0;  // bytes
  std::uint16_t transmission_flags_ = 0;
  // With the kernel, which has references of its own. Not those that a predecessor handed over.
  std::vector<engine::FileDescriptor> links_;
  std::vector<engine::FileDescriptor> offered_;  // the kernel has not taken them yet
  bool reconnecting_ = false;
  unsigned offers_ = 0;  // of the same connections
  Timer retry_;
  Timer watch_;
  std::chrono::milliseconds retry_delay_;
  std::string last_failure_;
};

}  // namespace server
