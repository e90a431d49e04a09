#include "proto/error.h"

#include <catch2/catch.hpp>
#include <cerrno>
#include <limits>
#include <set>
#include <utility>

using proto::Error;
using proto::error_from_errno;

TEST_CASE("errno values become their wire error") {
  const std::pair<int, Error> cases[] = {
      {0, Error::none},           {EPERM, Error::perm},
      {EACCES, Error::perm},      {EROFS, Error::perm},
      {ENOMEM, Error::no_memory}, {EINVAL, Error::invalid},
      {ENOSPC, Error::no_space},  {EDQUOT, Error::no_space},
      {EFBIG, Error::no_space},   {ESHUTDOWN, Error::shutdown},
      {EIO, Error::io},
  };
  for (const auto& [number, error] : cases) {
    CAPTURE(number);
    CHECK(error_from_errno(number) == error);
    CHECK(error_from_errno(number, true) == error);
  }
}

TEST_CASE("ENOTSUP leaves only as the answer to a fast zero") {
  for (const int number : {ENOTSUP, EOPNOTSUPP}) {
    CHECK(error_from_errno(number, true) == Error::not_supported);
    CHECK(error_from_errno(number, false) == Error::io);
  }
}

TEST_CASE("whatever the number, only wire errors leave, and EOVERFLOW is not among them") {
  const std::set<Error> allowed = {Error::perm,    Error::io,       Error::no_memory,
                                   Error::invalid, Error::no_space, Error::not_supported,
                                   Error::shutdown};
  for (int number = -200; number <= 600; ++number) {
    CAPTURE(number);
    const auto error = error_from_errno(number, true);
    CHECK((number == 0 ? error == Error::none : allowed.contains(error)));
  }
  CHECK(error_from_errno(std::numeric_limits<int>::min()) == Error::io);
  CHECK(error_from_errno(std::numeric_limits<int>::max()) == Error::io);
  CHECK(error_from_errno(EOVERFLOW) == Error::io);
}
