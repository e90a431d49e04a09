// Sizes as people write them, in files, flags and requests. Any thread.
#pragma once

#include <cstdint>
#include <string_view>

namespace server {

// "512", "64K", "10G": bytes with an optional binary suffix K, M, G, T or P. Throws UserError,
// which says that it is not a `noun` and what to write.
std::uint64_t parse_size(std::string_view text, std::string_view noun = "size",
                         std::string_view unit = "bytes");

}  // namespace server
