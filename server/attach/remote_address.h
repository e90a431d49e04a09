// The address of an export as an NBD URI: nbd://HOST[:PORT][/NAME] or
// nbd+unix:///[NAME]?socket=PATH. Pure functions, callable from any thread.
#pragma once

#include <optional>
#include <string>
#include <string_view>

namespace server {

struct RemoteAddress {
  std::string host;         // name or address, without brackets; empty for a Unix socket
  std::string port;         // a number
  std::string socket_path;  // empty for TCP
  std::string export_name;  // valid_string(); empty: the server's default export

  // The same for all ways to write it.
  std::string canonical() const;
};

// Nothing: it is no URI, so it will be a file's path. Throws UserError for a URI that is none of
// these.
std::optional<RemoteAddress> parse_remote_address(std::string_view text);

}  // namespace server
