// Requests that a client has sent and that nobody has begun to carry out: what they could do.
#pragma once

#include <cstddef>
#include <span>

#include "proto/request.h"
#include "server/net/transport.h"

namespace server {

constexpr bool changes(proto::Command command) noexcept {
  using enum proto::Command;
  return command == write || command == trim || command == write_zeroes;
}

// Whether one of them would change the export, or might. `unread` begins with a header, and may end
// anywhere. Nothing follows it.
bool may_change(std::span<const std::byte> unread, const proto::RequestRules& rules) noexcept;

// The same for `received` and what lies in the socket behind it, of a client that sends no more. So
// reads that wait for a client which reads slowly are no reason to keep others waiting. Yes when
// that cannot be known.
bool may_change(std::span<const std::byte> received, Transport& transport,
                const proto::RequestRules& rules) noexcept;

}  // namespace server
