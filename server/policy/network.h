// Networks as people write them: an Internet address, and how many of its bits count. Pure
// functions over values; any thread.
#pragma once

#include <string>
#include <string_view>

#include "server/policy/client_identity.h"

namespace server {

struct Network {
  IpAddress address;
  unsigned prefix_length = 0;  // bits

  bool operator==(const Network&) const = default;
};

// "10.0.0.0/8", "fd00::/8", "192.0.2.7". Throws std::runtime_error that says what is wrong with the
// text, to stand behind it.
Network parse_network(std::string_view text);

// The same without the bits of the address behind the prefix.
Network without_host_bits(Network network) noexcept;

bool contains(const Network& network, const IpAddress& address) noexcept;

// A single address is written without its prefix.
std::string format_network(const Network& network);

}  // namespace server
