// The server's status for programs: one JSON object. Any thread.
#pragma once

#include <string>

#include "server/status.h"

namespace server {

// Durations are in microseconds, sizes in bytes; both say so in their names.
std::string json_of(const ServerStatus& status);

}  // namespace server
