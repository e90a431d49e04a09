// The one place where errno values become NBD errors. Spec: "Error values".
#pragma once

#include "proto/constants.h"

namespace proto {

// Total: whatever the number, one of the wire errors comes back; EIO for what has no equivalent.
// `error` is a positive errno, or 0. ENOTSUP/EOPNOTSUPP become not_supported only when `fast_zero`
// is true (it may answer nothing but WRITE_ZEROES with FAST_ZERO), else EIO.
Error error_from_errno(int error, bool fast_zero = false) noexcept;

}  // namespace proto
