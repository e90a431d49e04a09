// The kernel's NBD driver by its generic netlink family: connects, replaces and disconnects the
// sockets behind /dev/nbdN. Used by one thread; its calls return when the driver has done its part
// and never wait for I/O of the device, but disconnect() waits for the driver's threads.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <span>
#include <stdexcept>
#include <string>
#include <vector>

namespace server {

// The message says what was asked of which device, why the kernel refused and what to do.
class NbdError : public std::runtime_error {
 public:
  NbdError(int error, const std::string& message) : std::runtime_error(message), error_(error) {}

  int error() const noexcept { return error_; }  // errno

 private:
  int error_;
};

// The driver's settings of a device that is connected.
struct NbdDeviceSettings {
  std::uint32_t index = 0;         // N of /dev/nbdN; made when there is none, also above nbds_max
  std::uint64_t size = 0;          // bytes
  std::uint32_t block_size = 512;  // bytes
  std::uint16_t transmission_flags = 0;  // as in the protocol
  // Seconds until a request that has no answer is sent again, on another connection or on the one
  // that takes the place of its own. Nothing: after 30 s; then the driver does not give up an only
  // connection that is slow but alive.
  std::optional<std::uint32_t> timeout_s = {};
  std::uint32_t dead_timeout_s = 0;  // seconds requests wait for a new socket when none is alive
  std::string backend;               // says in sysfs what is behind the device
  bool destroyed_on_disconnect = false;  // the device node goes when it is disconnected
};

class NbdNetlink {
 public:
  // Loads the module when it can. Throws NbdError.
  NbdNetlink();
  ~NbdNetlink();
  NbdNetlink(const NbdNetlink&) = delete;
  NbdNetlink& operator=(const NbdNetlink&) = delete;

  // Throws NbdError; EBUSY when the device is connected already. The driver keeps references to the
  // sockets of its own.
  void connect(const NbdDeviceSettings& settings, std::span<const int> sockets);
  // Puts sockets in the place of dead ones; the driver drops those it has no place for without a
  // word. `size`: the new one, if it is to change. False: the device is connected no more, or not
  // with this backend.
  bool replace_sockets(std::uint32_t index, const std::string& backend,
                       std::span<const int> sockets, std::optional<std::uint64_t> size = {});
  void disconnect(std::uint32_t index);

 private:
  struct Socket;
  const std::unique_ptr<Socket> socket_;
};

// The driver's announcements that a connection has died which nobody asked to end.
class LinkDeadEvents {
 public:
  // Throws NbdError.
  LinkDeadEvents();
  ~LinkDeadEvents();
  LinkDeadEvents(const LinkDeadEvents&) = delete;
  LinkDeadEvents& operator=(const LinkDeadEvents&) = delete;

  int fd() const noexcept;  // readable when there is something to take
  // Takes all that has come; how many of them are about this device.
  std::size_t take(std::uint32_t index) noexcept;

 private:
  struct Socket;
  const std::unique_ptr<Socket> socket_;
};

}  // namespace server
