// Every bound of the server, derived from the configuration in one place.
#pragma once

#include <chrono>
#include <cstddef>
#include <cstdint>

#include "server/config/config.h"
#include "server/config/container_limits.h"

namespace server {

struct Bounds {
  std::uint32_t workers = 1;
  std::size_t memory = 0;             // bytes of data in flight
  std::size_t memory_per_worker = 0;  // bytes
  bool memory_resident = false;       // all of it from the start, and kept
  ContainerLimits container;          // for people
  std::uint32_t connections_max = 0;  // of the process
  std::size_t send_buffer = 0;  // bytes the kernel keeps of replies to a client; 0: it decides
  std::uint32_t handshakes_max_per_worker = 0;  // connections that have not reached transmission
  std::uint32_t options_max = 0;                // options one client may send
  std::uint32_t requests_max_per_connection =
      128;                          // the depth of one hardware queue of the kernel client
  std::uint32_t queue_depth = 256;  // operations of one worker on one export within the kernel
  std::uint32_t payload_length_max = 32U << 20;  // bytes; what the specification asks for at least
  std::size_t receive_size_max_per_turn =
      1U << 20;  // bytes one connection receives before others have their turn
  std::chrono::microseconds busy_poll{0};  // a worker with clients looks so long before it sleeps
  std::chrono::nanoseconds slow_request =
      std::chrono::nanoseconds::max();  // what takes longer is logged
  std::chrono::seconds handshake_deadline{10};
  std::chrono::seconds drain_deadline{
      20};  // how long a stopping server waits for replies to be read
  std::chrono::seconds linger_deadline{
      1};  // how long a closing handshake reads what the client still sends
  std::chrono::seconds fence_deadline{
      10};  // how long a new connection waits for those whose clients are gone
  std::chrono::seconds stall_deadline{
      5};  // how long a client is watched before it is too slow, while another waits for memory
};

// Values that the configuration leaves open are derived from the processors that the process may
// use and from the container it is in. Throws UserError when the memory does not suffice for the
// workers.
Bounds derive_bounds(const Config& config, std::uint32_t processors,
                     const ContainerLimits& container);
// For this process as it is.
Bounds derive_bounds(const Config& config);

}  // namespace server
