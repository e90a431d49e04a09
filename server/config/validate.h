// Checks a configuration beyond the form of each key: each export, the exports together, and the
// process. Pure functions over values; any thread. All throw UserError, with the place in
// the file where there is one.
#pragma once

#include <span>
#include <string_view>

#include "server/config/config.h"

namespace server {

// The name and the description of an export are strings of the protocol; clients could not ask for
// other names.
void check_export_name(std::string_view name);
void check_description(std::string_view text);

// One export. `tls` is that of the server: it decides which clients can be told apart.
void check_export(const ExportConfig& entry, const TlsConfig& tls);

// All exports of a server: at least one, each of them valid, no name twice.
void check_exports(std::span<const ExportConfig> list, const TlsConfig& tls);

// Everything but the exports: TLS has what it needs, and the memory suffices for the workers.
void check_process(const Config& config);

// The process and its exports.
void validate(const Config& config);

}  // namespace server
