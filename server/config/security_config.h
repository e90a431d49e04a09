// The parts of the configuration that say who may connect, how they prove it, and what they may do.
#pragma once

#include <string>

#include "server/config/config.h"
#include "server/config/table_reader.h"

namespace server {

// The [tls] table, user and sandbox.
void read_security(TableReader& reader, const std::string& path, Config& config);
// The keys of an [[export]].
void read_export_security(TableReader& reader, const toml::table& table, ExportConfig& config);

// What the server proves itself with and what it asks of clients, for the log.
std::string describe(const TlsConfig& tls);

}  // namespace server
