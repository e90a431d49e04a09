// `loopnbd attach FILE`: a block device of the kernel whose requests come to our engine by socket
// pairs within one process.
//
// Guarantee for the death of this process: the requests in flight stay with the kernel, which
// sends them again to the process that takes over. They may be done twice, but none of the dead
// process can land after a newer one: the kernel finishes a process's direct I/O before it lets go
// of its open files, its other writes are done by its own threads, and the file's lock is free only
// when both are gone. The successor serves nothing before it has that lock. For the same reason the
// file is always locked.
#pragma once

#include <chrono>
#include <cstddef>
#include <memory>
#include <string>

#include "server/attach/attach_command.h"
#include "server/attach/attached_device.h"
#include "server/attach/attachment_loop.h"
#include "server/base/asio.h"
#include "server/config/bounds.h"
#include "server/export/export.h"
#include "server/process/daemon.h"
#include "server/serving/worker.h"

namespace server {

class FileAttachment {
 public:
  // Opens the file and attaches it. Throws UserError, NbdError or std::runtime_error.
  FileAttachment(const Attach& options, Daemon& daemon);

  // Serves until the device is detached; returns the exit status.
  int run();

 private:
  void open_export();
  std::shared_ptr<engine::BlockDevice> open_device(const ExportConfig& config);
  void make_workers();
  void attach();
  engine::FileDescriptor new_link();
  void restore_links() noexcept;
  int finish();

  const Attach options_;
  const std::string path_;  // absolute
  AttachedDevice device_;
  AttachmentLoop loop_;  // outlives the workers, which post to it
  const Bounds bounds_;
  std::shared_ptr<Export> export_;
  Workers workers_;
  std::size_t next_worker_ = 0;
  Timer retry_;
  std::chrono::milliseconds retry_delay_;
};

}  // namespace server
