// Addresses to listen on, and the sockets opened for them.
#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "engine/file_descriptor.h"

namespace server {

// How the addresses that are no HOST:PORT begin.
inline constexpr std::string_view unix_prefix = "unix:";
inline constexpr std::string_view vsock_prefix = "vsock:";

// A listening, non-blocking socket. A Unix socket's file is removed with the object.
class ListeningSocket {
 public:
  ListeningSocket(engine::FileDescriptor socket, std::string name, std::string unix_path = {});
  ListeningSocket(ListeningSocket&&) noexcept = default;
  ListeningSocket& operator=(ListeningSocket&&) = delete;
  ~ListeningSocket();

  int fd() const noexcept { return socket_.get(); }
  // The address as a client writes it: "127.0.0.1:10809", "[::1]:10809", "unix:/run/nbd.sock",
  // "vsock:10809".
  const std::string& name() const noexcept { return name_; }

 private:
  engine::FileDescriptor socket_;
  std::string name_;
  std::string unix_path_;  // empty: nothing to remove
};

// Opens HOST:PORT, [IPv6]:PORT, unix:PATH or vsock:PORT; a host name may stand for several sockets.
// Families that the machine does not have (no IPv6) are left out with a warning, and so is the
// wildcard of IPv6: then nothing may come back. A stale Unix socket is replaced. Throws
// std::runtime_error with a message for people.
std::vector<ListeningSocket> open_listening_sockets(const std::string& address);

// A Unix socket that only its owner can connect to. Throws as above.
ListeningSocket open_private_socket(const std::string& path);

// The sockets that systemd or another parent passes by LISTEN_FDS and LISTEN_PID; empty when there
// are none. Throws std::runtime_error when one of them is not a listening stream socket.
std::vector<ListeningSocket> take_passed_sockets();

// Throws std::runtime_error unless the address has one of the forms above; opens nothing.
void check_listen_address(std::string_view address);

}  // namespace server
