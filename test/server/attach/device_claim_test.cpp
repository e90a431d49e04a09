#include "server/attach/device_claim.h"

#include <sys/wait.h>
#include <unistd.h>

#include <catch2/catch.hpp>
#include <csignal>

#include "test/support/temporary_folder.h"

using server::DeviceClaim;

TEST_CASE("a device is claimed once, and by whom is known") {
  const auto folder = test::TemporaryFolder();
  const auto place = folder.path() / "made on demand";
  CHECK_FALSE(DeviceClaim::owner(3, place));
  {
    const auto claim = DeviceClaim::take(3, place);
    REQUIRE(claim);
    claim->record(4);
    CHECK_FALSE(DeviceClaim::take(3, place));
    CHECK(DeviceClaim::owner(3, place) == ::getpid());
    CHECK(DeviceClaim::take(4, place));
  }
  CHECK_FALSE(DeviceClaim::owner(3, place));
}

TEST_CASE("the successor of a process that was killed learns what it recorded") {
  const auto folder = test::TemporaryFolder();
  int ends[2];
  REQUIRE(::pipe(ends) == 0);
  const auto child = ::fork();
  if (child == 0) {
    const auto claim = DeviceClaim::take(0, folder.path());
    claim->record(16);
    static_cast<void>(::write(ends[1], "+", 1));
    ::pause();
    ::_exit(1);
  }
  auto ready = char{};
  REQUIRE(::read(ends[0], &ready, 1) == 1);
  CHECK(DeviceClaim::owner(0, folder.path()) == child);
  CHECK_FALSE(DeviceClaim::take(0, folder.path()));
  ::kill(child, SIGKILL);
  ::waitpid(child, nullptr, 0);
  const auto claim = DeviceClaim::take(0, folder.path());
  REQUIRE(claim);
  CHECK(claim->recorded_connections() == 16);
  claim->record(2);
  CHECK(claim->recorded_connections() == 2);
  ::close(ends[0]);
  ::close(ends[1]);
}

TEST_CASE("a claim without a sensible record tells nothing") {
  const auto folder = test::TemporaryFolder();
  for (const auto* const text : {"", "77", "77 ", "77 0\n", "x 4\n", "-1 4\n"}) {
    folder.write("nbd0", text);
    const auto claim = DeviceClaim::take(0, folder.path());
    REQUIRE(claim);
    CHECK_FALSE(claim->recorded_connections());
  }
}

TEST_CASE("a claim that cannot be made says why") {
  CHECK_THROWS_WITH(DeviceClaim::take(0, "/proc/nonexistent"),
                    Catch::Contains("/proc/nonexistent/nbd0: No such file"));
}
