// Names of protocol values for logs and error texts, as the specification writes them but without
// the prefix (NBD_CMD_, NBD_OPT_, NBD_REP_, NBD_); "unknown" for values the protocol does not name.
#pragma once

#include <string_view>

#include "proto/constants.h"

namespace proto {

std::string_view name(Command command) noexcept;
std::string_view name(Option option) noexcept;
std::string_view name(OptionReply reply) noexcept;
std::string_view name(Error error) noexcept;  // "none" for Error::none

}  // namespace proto
