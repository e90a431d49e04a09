#include "server/process/sandbox.h"

#include <fcntl.h>
#include <netinet/in.h>
#include <sched.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

#include <catch2/catch.hpp>
#include <cerrno>
#include <csignal>
#include <cstdio>
#include <functional>
#include <string>
#include <thread>

#include "engine/file_descriptor.h"
#include "server/base/log.h"

namespace {

// A folder with a file in it, removed at the end.
class Folder {
 public:
  Folder() {
    REQUIRE(::mkdtemp(path.data()) != nullptr);
    const auto created = engine::FileDescriptor(::open(file().c_str(), O_CREAT | O_WRONLY, 0600));
    REQUIRE(created);
  }
  ~Folder() {
    for (const auto* const name : {"/file", "/socket", "/new"}) ::unlink((path + name).c_str());
    ::rmdir(path.c_str());
  }
  Folder(const Folder&) = delete;
  Folder& operator=(const Folder&) = delete;

  std::string file() const { return path + "/file"; }

  std::string path = "/tmp/loopnbd-sandbox-XXXXXX";
};

// The errno of what a process within the sandbox tries; the test's own must stay free.
int tried(const server::Config& config, const std::function<bool()>& attempt,
          const engine::SandboxNeeds& needs = {}) {
  const auto child = ::fork();
  REQUIRE(child >= 0);
  if (child == 0) {
    try {
      spdlog::set_level(spdlog::level::off);
      server::Sandbox(config, needs).close();
    } catch (const std::exception& error) {
      std::fputs(error.what(), stderr);
      ::_exit(255);
    }
    ::_exit(attempt() ? 0 : errno);
  }
  auto status = 0;
  REQUIRE(::waitpid(child, &status, 0) == child);
  REQUIRE(WIFEXITED(status));
  return WEXITSTATUS(status);
}

bool run_program() {
  char* const arguments[] = {nullptr};
  return ::execve("/bin/true", arguments, arguments) == 0;
}

bool open_file(const std::string& path, int flags) {
  return static_cast<bool>(engine::FileDescriptor(::open(path.c_str(), flags | O_CLOEXEC, 0600)));
}

bool listen_at(const std::string& path) {
  auto address = sockaddr_un{.sun_family = AF_UNIX, .sun_path = {}};
  path.copy(address.sun_path, sizeof address.sun_path - 1);
  const auto socket = engine::FileDescriptor(::socket(AF_UNIX, SOCK_STREAM, 0));
  return ::bind(socket.get(), reinterpret_cast<const sockaddr*>(&address), sizeof address) == 0;
}

bool connect_to(in_port_t port) {
  auto address = sockaddr_in{.sin_family = AF_INET,
                             .sin_port = port,
                             .sin_addr = {.s_addr = htonl(INADDR_LOOPBACK)},
                             .sin_zero = {}};
  const auto socket = engine::FileDescriptor(::socket(AF_INET, SOCK_STREAM, 0));
  return ::connect(socket.get(), reinterpret_cast<const sockaddr*>(&address), sizeof address) == 0;
}

// clone() without glibc's wrapper, which would want a stack; a child that it makes ends at once.
bool clone_with(unsigned long flags) {
  const auto child = ::syscall(SYS_clone, flags | SIGCHLD, nullptr, nullptr, nullptr, nullptr);
  if (child == 0) ::_exit(0);
  return child > 0;
}

}  // namespace

TEST_CASE("in the sandbox no program runs, and no file is made or removed") {
  const auto folder = Folder();
  const auto config = server::Config{};
  CHECK(tried(config, run_program) == EPERM);
  CHECK(tried(config, [&] { return open_file(folder.path + "/new", O_CREAT | O_WRONLY); }) ==
        EACCES);
  CHECK(tried(config, [&] { return ::unlink(folder.file().c_str()) == 0; }) == EACCES);
  CHECK(tried(config, [&] { return ::mkdir((folder.path + "/new").c_str(), 0700) == 0; }) ==
        EACCES);
  CHECK(tried(config, [&] { return listen_at(folder.path + "/socket"); }) == EACCES);
}

TEST_CASE("in the sandbox existing files are opened, read and written, as a reload needs") {
  const auto folder = Folder();
  const auto config = server::Config{};
  CHECK(tried(config, [&] { return open_file(folder.file(), O_RDWR); }) == 0);
  CHECK(tried(config, [&] { return open_file(folder.file(), O_RDWR | O_TRUNC); }) == 0);
  CHECK(tried(config, [&] { return open_file("/proc/self/status", O_RDONLY); }) == 0);
}

TEST_CASE("in the sandbox sockets are made and removed where they are listened on") {
  const auto folder = Folder();
  auto config = server::Config{};
  config.listen = {"unix:" + folder.path + "/socket"};
  CHECK(tried(config, [&] { return listen_at(folder.path + "/socket"); }) == 0);
  CHECK(tried(config, [&] { return ::unlink((folder.path + "/socket").c_str()) == 0; }) == 0);
  CHECK(tried(config, [&] { return open_file(folder.path + "/new", O_CREAT | O_WRONLY); }) ==
        EACCES);
}

TEST_CASE("in the sandbox nobody is connected to by TCP") {
  const auto listener = engine::FileDescriptor(::socket(AF_INET, SOCK_STREAM, 0));
  REQUIRE(::listen(listener.get(), 1) == 0);
  auto address = sockaddr_in{};
  auto length = socklen_t{sizeof address};
  REQUIRE(::getsockname(listener.get(), reinterpret_cast<sockaddr*>(&address), &length) == 0);
  CHECK(tried(server::Config{}, [&] { return connect_to(address.sin_port); }) == EACCES);
}

TEST_CASE("the sandbox leaves to devices what they need") {
  const auto folder = Folder();
  const auto set_up_ring = [] {
    // Without arguments the kernel refuses it, if it is asked at all.
    return ::syscall(SYS_io_uring_setup, 0, nullptr) >= 0;
  };
  const auto config = server::Config{};
  CHECK(tried(config, set_up_ring) == EPERM);
  const auto left = tried(config, set_up_ring, {.io_uring = true});
  CHECK((left == EINVAL || left == EFAULT || left == ENOSYS));
  CHECK(tried(config, run_program, {.io_uring = true, .outgoing_tcp = true}) == EPERM);
}

TEST_CASE("in the sandbox processes are made, and no namespaces") {
  const auto config = server::Config{};
  for (const auto flag : {CLONE_NEWUSER, CLONE_NEWNS, CLONE_NEWNET, CLONE_NEWPID, CLONE_NEWIPC,
                          CLONE_NEWUTS, CLONE_NEWCGROUP}) {
    CAPTURE(flag);
    CHECK(tried(config, [&] { return clone_with(static_cast<unsigned>(flag)); }) == EPERM);
    CHECK(tried(config, [&] {
            return clone_with(static_cast<unsigned>(flag) | CLONE_NEWUSER | CLONE_FS);
          }) == EPERM);
    CHECK(tried(config, [&] { return ::unshare(flag) == 0; }) == EPERM);
  }
  CHECK(tried(config, [] { return clone_with(0); }) == 0);
  // As a kernel without it answers: glibc goes on with clone().
  CHECK(tried(config, [] { return ::syscall(SYS_clone3, nullptr, 0) >= 0; }) == ENOSYS);
  CHECK(tried(config, [] {
          std::thread([] {}).join();
          return true;
        }) == 0);
}

TEST_CASE("in the sandbox other processes' descriptors and memory are out of reach") {
  const auto config = server::Config{};
  CHECK(tried(config, [] { return ::syscall(SYS_pidfd_getfd, -1, 0, 0) >= 0; }) == EPERM);
  CHECK(tried(config, [] { return ::syscall(SYS_process_madvise, -1, nullptr, 0, 0, 0) >= 0; }) ==
        EPERM);
}

TEST_CASE("without the sandbox everything is as it was") {
  const auto folder = Folder();
  auto config = server::Config{};
  config.sandbox = false;
  CHECK(tried(config, [&] { return open_file(folder.path + "/new", O_CREAT | O_WRONLY); }) == 0);
  CHECK(tried(config, [&] { return ::unlink(folder.file().c_str()) == 0; }) == 0);
}

TEST_CASE("a user that there is not is refused by name") {
  auto config = server::Config{};
  config.user = "no-such-user";
  config.sandbox = false;
  CHECK_THROWS_WITH(server::Sandbox(config).close(), Catch::Contains("no-such-user"));
}
