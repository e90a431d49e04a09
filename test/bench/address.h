// Where a server is and which export to ask for.
#pragma once

#include <string>
#include <string_view>

namespace bench {

struct Address {
  std::string socket_path;  // a Unix socket, or empty for TCP
  std::string host;
  std::string port;
  std::string export_name;
};

// unix:PATH, HOST:PORT, [IPv6]:PORT (export "" until the caller sets one), nbd://HOST[:PORT]/EXPORT
// or nbd+unix:///EXPORT?socket=PATH, percent-encoded. Throws std::invalid_argument.
Address parse_address(std::string_view text);

}  // namespace bench
