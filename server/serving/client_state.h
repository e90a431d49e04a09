// The state that another process needs to go on serving a client: who it is, what was negotiated,
// and where the transmission phase stands. A plain value, taken while nothing of the connection is
// in flight.
#pragma once

#include <chrono>
#include <cstddef>
#include <cstdint>
#include <optional>
#include <vector>

#include "proto/negotiation.h"
#include "server/base/metrics.h"
#include "server/policy/client_identity.h"

namespace server {

// Sums over the requests of a connection that were answered.
struct RequestTotals {
  std::uint64_t requests = 0;
  std::uint64_t bytes_read = 0;     // by READs answered without an error
  std::uint64_t bytes_written = 0;  // by WRITEs, likewise
  std::chrono::nanoseconds latency{0};
};

struct ClientState {
  ClientIdentity client;
  proto::Negotiated negotiated;  // with the export as it was told to the client
  std::uint64_t arrival = 0;     // its place in the order of all connections; unique
  Clock::time_point since;       // when it began

  // Input: bytes that were received and not consumed, in front of what the socket still has; and
  // how many of them, and behind them, are the payload of a refused request.
  std::vector<std::byte> unread;
  std::uint64_t discard_left = 0;
  // Set: the next request has been charged to the limits, and may begin at this time.
  std::optional<Clock::time_point> admitted_at;

  // Output: replies, or what is left of them, in front of all others.
  std::vector<std::byte> unsent;

  RequestTotals totals;
};

// Of a client that enters the transmission phase now. `unread`: what it has sent behind its GO.
ClientState begin_transmission(ClientIdentity client, proto::Negotiated negotiated,
                               std::vector<std::byte> unread = {});

}  // namespace server
