// A whole file that an operator wrote, as text: a regular file, a pipe, or a device such as
// /dev/stdin. Any thread that may wait.
#pragma once

#include <chrono>
#include <cstddef>
#include <string>

namespace server {

inline constexpr std::size_t text_file_length_max = std::size_t{16} << 20;  // bytes

// Waits so long for the next bytes of a pipe that a process has open for writing. Throws UserError
// for a file that cannot be read, is too long, or is a pipe that nobody writes into.
std::string read_file(const std::string& path,
                      std::chrono::milliseconds timeout = std::chrono::seconds(10));

}  // namespace server
