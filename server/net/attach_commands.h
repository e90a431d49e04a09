// The commands by which clients attach an export, to be pasted into a shell: names are quoted and
// percent-encoded as each client wants them. Pure functions; any thread.
#pragma once

#include <string>
#include <string_view>
#include <vector>

namespace server {

// `text` as a part of a URI: everything but letters, digits, "-._~" and "/" is percent-encoded.
std::string uri_part(std::string_view text);

// For addresses as ListeningSocket::name() has them. A wildcard stands for HOST, which the reader
// replaces; a command that several addresses have in common comes once. `tls`: clients must use it.
std::vector<std::string> attach_commands(const std::vector<std::string>& addresses,
                                         const std::string& export_name, bool tls);

}  // namespace server
