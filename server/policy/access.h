// The rights of clients to an export: patterns that the operator writes, and clients that match.
// Pure functions over values; any thread.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <variant>
#include <vector>

#include "server/policy/client_identity.h"

namespace server {

// "10.0.0.0/8", "fd00::/8", "192.0.2.7": compared bit by bit.
struct NetworkPattern {
  IpAddress address;
  unsigned prefix_length = 0;  // bits
  bool operator==(const NetworkPattern&) const = default;
};
// "cert:CN=node-*,O=Example": each attribute must be in the client's certificate, its whole value
// matching; of several with the same name any one will do.
struct CertificatePattern {
  std::vector<CertificateName> names;
  bool operator==(const CertificatePattern&) const = default;
};
// "psk:backup-*"
struct PskPattern {
  std::string user;
  bool operator==(const PskPattern&) const = default;
};
// "uid:1000" and "gid:100", of the process at the other end of a Unix socket.
struct UserPattern {
  uid_t user = 0;
  bool operator==(const UserPattern&) const = default;
};
struct GroupPattern {
  gid_t group = 0;
  bool operator==(const GroupPattern&) const = default;
};

using ClientPattern =
    std::variant<NetworkPattern, CertificatePattern, PskPattern, UserPattern, GroupPattern>;

// Throws std::runtime_error that says which forms there are.
ClientPattern parse_client_pattern(std::string_view text);

bool matches(const ClientPattern& pattern, const ClientIdentity& client);

// `*` stands for any bytes, `?` for any one byte; everything else for itself.
bool matches_glob(std::string_view glob, std::string_view text) noexcept;

struct AccessRules {
  std::vector<ClientPattern> allow;  // empty: everybody
  std::vector<ClientPattern> read_only_for;

  // One of the patterns of `allow` matches.
  bool may_use(const ClientIdentity& client) const;
  bool may_write(const ClientIdentity& client) const;

  bool operator==(const AccessRules&) const = default;
};

}  // namespace server
