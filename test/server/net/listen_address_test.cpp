#include "server/net/listen_address.h"

#include <seccomp.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

#include <array>
#include <catch2/catch.hpp>
#include <cerrno>
#include <cstdlib>
#include <cstring>
#include <filesystem>
#include <fstream>

#include "test/support/temporary_folder.h"

namespace {

using Folder = test::TemporaryFolder;

// Runs `work` in a process of its own whose kernel has no IPv6; the number that it returns.
int without_ipv6(int (*work)()) {
  const auto child = ::fork();
  if (child == 0) {
    auto* const filter = seccomp_init(SCMP_ACT_ALLOW);
    const auto loaded = seccomp_rule_add(filter, SCMP_ACT_ERRNO(EAFNOSUPPORT), SCMP_SYS(socket), 1,
                                         SCMP_A0(SCMP_CMP_EQ, AF_INET6)) == 0 &&
                        seccomp_load(filter) == 0;
    std::_Exit(loaded ? work() : 100);
  }
  auto status = 0;
  ::waitpid(child, &status, 0);
  return WIFEXITED(status) ? WEXITSTATUS(status) : -1;
}

}  // namespace

TEST_CASE("a wildcard is listened on where the kernel has no IPv6") {
  CHECK(without_ipv6(
            [] { return static_cast<int>(server::open_listening_sockets(":0").size()); }) == 1);
  CHECK(without_ipv6(
            [] { return static_cast<int>(server::open_listening_sockets("[::]:0").size()); }) == 0);
  CHECK(without_ipv6([] {
          try {
            server::open_listening_sockets("[::1]:0");
          } catch (const std::runtime_error&) {
            return 7;
          }
          return 0;
        }) == 7);
}

TEST_CASE("addresses of all forms are understood and others are refused") {
  for (const auto* const address :
       {"127.0.0.1:0", "[::1]:10809", "localhost:1", ":10809", "unix:/x", "vsock:10809"})
    CHECK_NOTHROW(server::check_listen_address(address));
  for (const auto* const address : {"", "127.0.0.1", "::1:10809", "host:port", "host:65536",
                                    "unix:", "vsock:", "vsock:x", "host:-1"}) {
    CAPTURE(address);
    CHECK_THROWS_WITH(server::check_listen_address(address), Catch::Contains("HOST:PORT"));
  }
}

TEST_CASE("a Unix socket is removed with its object") {
  const auto folder = Folder();
  const auto path = folder / "socket";
  {
    const auto sockets = server::open_listening_sockets("unix:" + path);
    REQUIRE(sockets.size() == 1);
    CHECK(sockets.front().name() == "unix:" + path);
    CHECK(std::filesystem::exists(path));
  }
  CHECK_FALSE(std::filesystem::exists(path));
}

TEST_CASE("a stale Unix socket is replaced, one in use and a file are not") {
  const auto folder = Folder();
  const auto path = folder / "socket";
  {
    // Closed without being removed, as a killed server leaves it.
    const auto stale = engine::FileDescriptor(::socket(AF_UNIX, SOCK_STREAM, 0));
    auto where = sockaddr_un{};
    where.sun_family = AF_UNIX;
    std::memcpy(where.sun_path, path.data(), path.size());
    REQUIRE(::bind(stale.get(), reinterpret_cast<const sockaddr*>(&where), sizeof where) == 0);
  }
  REQUIRE(std::filesystem::exists(path));
  const auto sockets = server::open_listening_sockets("unix:" + path);
  CHECK_THROWS_WITH(server::open_listening_sockets("unix:" + path),
                    Catch::Contains("another server is there"));
  CHECK(std::filesystem::exists(path));

  const auto file = folder / "file";
  std::ofstream(file) << "data";
  CHECK_THROWS_WITH(server::open_listening_sockets("unix:" + file),
                    Catch::Contains("not a socket"));
  CHECK(std::filesystem::exists(file));
}

TEST_CASE("a port in use is refused with a remedy") {
  const auto sockets = server::open_listening_sockets("127.0.0.1:0");
  REQUIRE(sockets.size() == 1);
  CHECK(sockets.front().name() != "127.0.0.1:0");  // the port that was chosen
  CHECK_THROWS_WITH(server::open_listening_sockets(sockets.front().name()),
                    Catch::Contains("another server is there"));
}

TEST_CASE("a number of passed sockets that no process has is no number") {
  ::setenv("LISTEN_PID", std::to_string(::getpid()).c_str(), 1);
  for (const auto* const count : {"2147483647", "-1", "1e3", "", "99999999999999999999"}) {
    ::setenv("LISTEN_FDS", count, 1);
    CHECK(server::take_passed_sockets().empty());
    ::setenv("LISTEN_PID", std::to_string(::getpid()).c_str(), 1);
  }
  ::unsetenv("LISTEN_PID");
}
