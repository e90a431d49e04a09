// The loop of every attachment once its device is connected: waits for signals and for links that
// die, and detaches without losing what is cached. Used by one thread, whose io_context it owns.
#pragma once

#include <boost/asio/signal_set.hpp>
#include <functional>
#include <string>
#include <thread>

#include "engine/file_descriptor.h"
#include "server/attach/attached_device.h"
#include "server/attach/nbd_netlink.h"
#include "server/base/asio.h"
#include "server/process/daemon.h"

namespace server {

class AttachmentLoop {
 public:
  // From here on no signal and no event is lost. The arguments outlive it.
  AttachmentLoop(AttachedDevice& device, Daemon& daemon);
  ~AttachmentLoop();

  asio::io_context& io_context() noexcept { return io_context_; }

  // Says that the device is ready; calls `link_died` on this thread whenever the kernel has given a
  // link up; returns when the device is detached, by SIGTERM, SIGINT or from outside.
  void run(std::function<void()> link_died);
  // The kernel has no device of ours any more: run() returns.
  void end() noexcept;
  bool ended() const noexcept { return ended_; }

 private:
  void wait_for_signal();
  void wait_for_link_death();
  void quiesce();
  void quiesced(engine::FileDescriptor device, const std::string& failure);

  AttachedDevice& device_;
  Daemon& daemon_;
  std::function<void()> link_died_;
  LinkDeadEvents link_deaths_;
  asio::io_context io_context_;
  asio::signal_set signals_;
  Descriptor link_death_;  // descriptor of link_deaths_; not ours to close
  std::thread quiescer_;   // waits for the device's writes, which need this process to go on
  bool ended_ = false;
};

}  // namespace server
