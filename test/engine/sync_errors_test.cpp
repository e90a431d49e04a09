#include "engine/sync_errors.h"

#include <catch2/catch.hpp>
#include <cerrno>

using engine::SyncErrors;

TEST_CASE("a sync error outlives the devices that share it, until it is cleared") {
  SyncErrors errors;
  {
    const auto one = errors.of("file 1");
    const auto other = errors.of("file 1");
    CHECK(one == other);
    CHECK(one->set(-EIO));
    CHECK_FALSE(other->set(-ENOSPC));
    CHECK(errors.of("file 2")->value() == 0);
  }
  CHECK(errors.of("file 1")->value() == -EIO);
  errors.of("file 1")->clear();
  CHECK(errors.of("file 1")->value() == 0);
}
