// One attachment's device: which /dev/nbdN it is, and the claim on it. Taken over when a process
// that attached the same has died, else a free one. Used by one thread.
#pragma once

#include <cstdint>
#include <optional>
#include <span>
#include <string>

#include "engine/file_descriptor.h"
#include "server/attach/attach_command.h"
#include "server/attach/device_claim.h"
#include "server/attach/nbd_netlink.h"

namespace server {

class AttachedDevice {
 public:
  // `backend` names what is attached, the same each time. Throws NbdError or std::runtime_error.
  AttachedDevice(const Attach& options, std::string backend);

  std::uint32_t index() const noexcept { return index_; }
  std::string path() const;
  // The sockets that the kernel has places for.
  std::uint32_t connections() const noexcept { return connections_; }
  // Connected already, with the sockets of a process that has died.
  bool taken_over() const noexcept { return taken_over_; }
  // Bytes, of a device that is taken over.
  std::uint64_t size() const noexcept { return size_; }

  // Throws NbdError. Goes on to other devices while somebody else is faster, unless one was named.
  void connect(std::uint64_t size, std::uint16_t transmission_flags, std::span<const int> sockets);
  // As NbdNetlink::replace_sockets().
  bool replace_sockets(std::span<const int> sockets, std::optional<std::uint64_t> size = {});
  void disconnect() { netlink_.disconnect(index_); }
  // Makes the device ready for use: the I/O scheduler, the partitions. Blocks on I/O of the device.
  void prepare_for_use() const noexcept;

 private:
  bool take_over();
  void claim_free();
  bool claim(std::uint32_t index);
  void choose_scheduler() const noexcept;
  void scan_partitions() const noexcept;

  const Attach options_;
  const std::string backend_;
  NbdNetlink netlink_;
  std::uint32_t index_ = 0;
  std::uint32_t connections_;
  bool taken_over_ = false;
  bool is_new_ = false;  // the device node comes into being with the connection
  std::uint64_t size_ = 0;
  std::optional<DeviceClaim> claim_;
};

// Keeps others from mounting the device, and writes out what its page cache holds; the device may
// be disconnected then, and the descriptor closed. Blocks until the writes are done. Throws
// NbdError, EBUSY when the device is in use.
engine::FileDescriptor quiesce_nbd_device(std::uint32_t index);

}  // namespace server
