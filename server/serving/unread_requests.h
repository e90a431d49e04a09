// Requests that a client has sent and that nobody has begun to carry out: what they could do.
#pragma once

#include <cstddef>
#include <span>

#include "proto/request.h"

namespace server {

// Whether one of them would change the export, or might. `unread` begins with a header, and may end
// anywhere. Nothing follows it.
bool may_change(std::span<const std::byte> unread, const proto::RequestRules& rules) noexcept;

}  // namespace server
