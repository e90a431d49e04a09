// The identity of a client, as far as the kernel and TLS can tell: for the access
// rules and for the log.
#pragma once

#include <sys/types.h>

#include <array>
#include <cstdint>
#include <optional>
#include <string>
#include <vector>

namespace server {

// An Internet address without its port. An IPv4-mapped IPv6 address is held as the IPv4 address
// that it stands for, so that it cannot slip past a rule written for the other.
struct IpAddress {
  bool is_ip4 = false;
  std::array<std::uint8_t, 16> bytes{};  // network order; of IPv4, the first four

  bool operator==(const IpAddress&) const = default;
};

// The process at the other end of a Unix socket, when it connected.
struct LocalProcess {
  pid_t process = 0;  // 0: in a process namespace that we cannot see
  uid_t user = 0;
  std::vector<gid_t> groups;  // the primary one first
};

// One of the names in a certificate: an attribute of its subject ("CN", "O"), or an alternative
// name ("DNS", "URI", "email").
struct CertificateName {
  std::string attribute;
  std::string value;

  bool operator==(const CertificateName&) const = default;
};

struct ClientIdentity {
  std::string name;  // for the log: "10.0.0.5:40404", "process 12 of user 0"
  // What all connections of this client have in common: "10.0.0.5", "process 12 of user 0".
  std::string host = {};
  std::uint64_t ticket = 0;  // a place in the order in which clients have come
  std::optional<IpAddress> address = std::nullopt;
  std::optional<LocalProcess> local = std::nullopt;
  // Proven by TLS.
  std::vector<CertificateName> certificate_names = {};
  std::string psk_user = {};
};

// An address in numbers. Nothing: the text is none.
std::optional<IpAddress> parse_ip_address(const std::string& text);

// Of a connected socket, from the kernel.
ClientIdentity identify(int socket);
// Of the client on standard input: of its socket, or else the parent that holds the other ends.
ClientIdentity identify_standard_input();

}  // namespace server
