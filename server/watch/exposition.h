// The server's status as Prometheus reads it: text exposition format 0.0.4. Any thread.
#pragma once

#include <string>
#include <string_view>

#include "server/serving/status.h"

namespace server {

inline constexpr std::string_view exposition_type = "text/plain; version=0.0.4; charset=utf-8";

std::string exposition_of(const ServerStatus& status);

}  // namespace server
