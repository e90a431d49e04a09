// The server's status for programs, the same over HTTP and over the control socket. Any thread.
#pragma once

#include <boost/json/object.hpp>

#include "server/serving/status.h"

namespace server {

// Durations are in microseconds, sizes in bytes; both say so in their names.
boost::json::object json_of(const ServerStatus& status);

}  // namespace server
