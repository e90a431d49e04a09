#include "test/support/failing_calls.h"

#include <fcntl.h>
#include <sys/eventfd.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <atomic>
#include <cerrno>
#include <cstdarg>
#include <string_view>

namespace {

std::atomic<long> calls_left{-1};
std::atomic<const char*> counted{""};
std::atomic<const char*> failed{nullptr};
std::atomic<int> error_of_failure{EIO};

// True: the call of this moment fails, and errno says why.
bool fails(const char* name) {
  const auto only = std::string_view(counted.load());
  if (!only.empty() && only != name) return false;
  if (calls_left.load() < 0 || calls_left.fetch_sub(1) != 0) return false;
  failed = name;
  errno = error_of_failure;
  return true;
}

template <typename... Arguments>
int call(const char* name, long number, Arguments... arguments) {
  if (fails(name)) return -1;
  return static_cast<int>(::syscall(number, arguments...));
}

// The one argument that may follow.
template <typename Argument>
Argument take(std::va_list list) {
  return va_arg(list, Argument);
}

}  // namespace

namespace test {

FailingCall::FailingCall(long number, const char* only, int error) {
  error_of_failure = error;
  failed = nullptr;
  counted = only;
  calls_left = number;
}

FailingCall::~FailingCall() { calls_left = -1; }

bool FailingCall::happened() { return failed.load() != nullptr; }

std::string FailingCall::name() { return happened() ? failed.load() : ""; }

}  // namespace test

extern "C" {

int open(const char* path, int flags, ...) {
  std::va_list list;
  va_start(list, flags);
  const auto mode = (flags & (O_CREAT | O_TMPFILE)) != 0 ? take<unsigned>(list) : 0U;
  va_end(list);
  return call("open", SYS_openat, AT_FDCWD, path, flags, mode);
}

int fcntl(int fd, int command, ...) {
  std::va_list list;
  va_start(list, command);
  auto* const argument = take<void*>(list);
  va_end(list);
  return call("fcntl", SYS_fcntl, fd, command, argument);
}

int ioctl(int fd, unsigned long request, ...) noexcept {
  std::va_list list;
  va_start(list, request);
  auto* const argument = take<void*>(list);
  va_end(list);
  return call("ioctl", SYS_ioctl, fd, request, argument);
}

int stat(const char* path, struct stat* status) noexcept {
  return call("stat", SYS_newfstatat, AT_FDCWD, path, status, 0);
}

int fstat(int fd, struct stat* status) noexcept {
  return call("fstat", SYS_newfstatat, fd, "", status, AT_EMPTY_PATH);
}

int statx(int folder, const char* path, int flags, unsigned mask, struct statx* status) noexcept {
  return call("statx", SYS_statx, folder, path, flags, mask, status);
}

int ftruncate(int fd, off_t length) noexcept {
  return call("ftruncate", SYS_ftruncate, fd, length);
}

int fallocate(int fd, int mode, off_t offset, off_t length) {
  return call("fallocate", SYS_fallocate, fd, mode, offset, length);
}

int fdatasync(int fd) { return call("fdatasync", SYS_fdatasync, fd); }

int eventfd(unsigned count, int flags) noexcept {
  return call("eventfd", SYS_eventfd2, count, flags);
}

int socket(int domain, int type, int protocol) noexcept {
  return call("socket", SYS_socket, domain, type, protocol);
}

int bind(int fd, const struct sockaddr* address, socklen_t length) noexcept {
  return call("bind", SYS_bind, fd, address, length);
}

int listen(int fd, int backlog) noexcept { return call("listen", SYS_listen, fd, backlog); }

int accept4(int fd, struct sockaddr* address, socklen_t* length, int flags) {
  return call("accept4", SYS_accept4, fd, address, length, flags);
}

ssize_t pread(int fd, void* memory, size_t length, off_t offset) {
  return call("pread", SYS_pread64, fd, memory, length, offset);
}

// As libaio has it: a negative error, not errno.
int io_setup(int depth, struct io_context** context) {
  const auto result = call("io_setup", SYS_io_setup, depth, context);
  return result < 0 ? -errno : result;
}
}
