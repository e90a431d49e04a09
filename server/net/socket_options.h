// Options of the sockets that carry NBD, whichever end is ours.
#pragma once

#include <chrono>
#include <cstddef>

namespace server {

// How soon a TCP peer that has vanished without a word is found out.
struct KeepAlive {
  std::chrono::seconds idle;      // before the first probe
  std::chrono::seconds interval;  // between probes
  int probes_max;                 // without an answer
};

// Options that a socket's family does not know are left out. Any thread.
void configure(int socket, const KeepAlive& keep_alive) noexcept;

// The kernel keeps at most about `size` bytes of what was written and the other end has not read.
// Any thread.
void limit_send_buffer(int socket, std::size_t size) noexcept;

}  // namespace server
