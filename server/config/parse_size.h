// Sizes as people write them, in files, flags and requests. Any thread.
#pragma once

#include <cstdint>
#include <string_view>

namespace server {

// "512", "64K", "10G": bytes with an optional binary suffix K, M, G, T or P. Throws UserError.
std::uint64_t parse_size(std::string_view text);

}  // namespace server
