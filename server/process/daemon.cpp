#include "server/process/daemon.h"

#include <fcntl.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cerrno>
#include <cstdlib>
#include <cstring>
#include <system_error>

#include "server/base/log.h"
#include "server/base/service_manager.h"

namespace server {
namespace {

// Ends the calling process as the child does, or well when the child says that it is ready.
[[noreturn]] void wait_for(pid_t child, int readiness) noexcept {
  auto ready = char{};
  auto count = ssize_t{};
  do {
    count = ::read(readiness, &ready, 1);
  } while (count < 0 && errno == EINTR);
  if (count == 1) std::_Exit(0);
  auto status = 0;
  while (::waitpid(child, &status, 0) < 0 && errno == EINTR) continue;
  std::_Exit(WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status));
}

}  // namespace

Daemon::Daemon(bool foreground) : foreground_(foreground) {
  if (foreground_) return;
  int ends[2];
  if (::pipe2(ends, O_CLOEXEC) != 0)
    throw std::system_error(errno, std::generic_category(), "cannot make a pipe");
  auto readiness = engine::FileDescriptor(ends[0]);
  waiting_.reset(ends[1]);
  const auto child = ::fork();
  if (child < 0) throw std::system_error(errno, std::generic_category(), "cannot fork");
  if (child == 0) return;
  waiting_.reset();
  wait_for(child, readiness.get());
}

void Daemon::ready() {
  // Nothing depends on it but systemd's patience.
  static_cast<void>(tell_service_manager("READY=1"));
  if (foreground_) return;
  ::setsid();
  // Nothing is kept from being unmounted by a working directory.
  if (::chdir("/") != 0) log::warn("cannot leave the working directory: {}", std::strerror(errno));
  const auto null = engine::FileDescriptor(::open("/dev/null", O_RDWR | O_CLOEXEC));
  for (const auto standard : {STDIN_FILENO, STDOUT_FILENO, STDERR_FILENO})
    ::dup2(null.get(), standard);
  const auto ready = '+';
  if (::write(waiting_.get(), &ready, 1) != 1) log::warn("nobody has waited for the start");
  waiting_.reset();
}

void Daemon::stopping() const noexcept { static_cast<void>(tell_service_manager("STOPPING=1")); }

}  // namespace server
