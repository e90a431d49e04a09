// The requests that a client may send, as they follow from its handshake.
#pragma once

#include <cstdint>

#include "proto/negotiation.h"
#include "proto/request.h"

namespace server {

proto::RequestRules rules_of(const proto::Negotiated& negotiated);

// `transmission_flags`: as told to the client.
constexpr bool is_read_only(std::uint16_t transmission_flags) noexcept {
  return (transmission_flags & proto::transmission_flag::read_only) != 0;
}

}  // namespace server
