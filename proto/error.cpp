#include "proto/error.h"

#include <cerrno>

namespace proto {

// On systems where the two differ the switch below needs both.
static_assert(ENOTSUP == EOPNOTSUPP);

// EOVERFLOW is missing on purpose: the spec reserves it for a READ with DF and for too long
// commands without payload, which validate() answers before any system call can fail.
Error error_from_errno(int error, bool fast_zero) noexcept {
  switch (error) {
    case 0:
      return Error::none;
    case EPERM:
    case EACCES:
    case EROFS:
      return Error::perm;
    case ENOMEM:
      return Error::no_memory;
    case EINVAL:
      return Error::invalid;
    case ENOSPC:
    case EDQUOT:
    case EFBIG:
      return Error::no_space;
    case EOPNOTSUPP:
      return fast_zero ? Error::not_supported : Error::io;
    case ESHUTDOWN:
      return Error::shutdown;
    default:
      return Error::io;
  }
}

}  // namespace proto
