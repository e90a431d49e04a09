// An eventfd as a wake-up call: any thread signals, the owner of a queue polls and clears.
#pragma once

#include <sys/eventfd.h>
#include <unistd.h>

#include <cerrno>
#include <cstdint>
#include <system_error>

#include "engine/file_descriptor.h"

namespace engine {

class EventFd {
 public:
  EventFd() : fd_(::eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK)) {
    if (!fd_) throw std::system_error(errno, std::generic_category(), "cannot make an eventfd");
  }

  int get() const noexcept { return fd_.get(); }
  void signal() const noexcept { signal(fd_.get()); }

  // Neither can fail in a way that matters: a full counter is readable already, an empty one is
  // clear.
  static void signal(int fd) noexcept {
    const std::uint64_t one = 1;
    [[maybe_unused]] const auto written = ::write(fd, &one, sizeof(one));
  }
  void clear() const noexcept {
    std::uint64_t count = 0;
    [[maybe_unused]] const auto read = ::read(fd_.get(), &count, sizeof(count));
  }

 private:
  FileDescriptor fd_;
};

}  // namespace engine
