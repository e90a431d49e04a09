#include "server/base/read_file.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <poll.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>
#include <string_view>
#include <vector>

#include "engine/file_descriptor.h"
#include "server/base/user_error.h"

namespace server {
namespace {

constexpr std::size_t step_length = 65536;  // bytes

[[noreturn]] void refuse(const std::string& path, std::string_view why) {
  throw UserError(fmt::format("cannot read {}: {}", path, why));
}

void wait_for_bytes(int file, const std::string& path, std::chrono::milliseconds timeout) {
  auto waiting = pollfd{.fd = file, .events = POLLIN, .revents = 0};
  auto ready = ::poll(&waiting, 1, static_cast<int>(timeout.count()));
  while (ready < 0 && errno == EINTR)
    ready = ::poll(&waiting, 1, static_cast<int>(timeout.count()));
  if (ready < 0) refuse(path, std::strerror(errno));
  if (ready == 0) refuse(path, "its writer neither writes nor closes it");
}

}  // namespace

std::string read_file(const std::string& path, std::chrono::milliseconds timeout) {
  // Without O_NONBLOCK, opening a FIFO waits for a writer.
  const auto file = engine::FileDescriptor(::open(path.c_str(), O_RDONLY | O_NONBLOCK | O_CLOEXEC));
  if (!file) refuse(path, std::strerror(errno));
  struct stat status {};
  if (::fstat(file.get(), &status) != 0) refuse(path, std::strerror(errno));
  auto text = std::string{};
  auto step = std::vector<char>(step_length);
  while (true) {
    const auto length = ::read(file.get(), step.data(), step.size());
    if (length < 0 && errno == EINTR) continue;
    if (length < 0 && errno == EAGAIN) {
      wait_for_bytes(file.get(), path, timeout);
      continue;
    }
    if (length < 0) refuse(path, std::strerror(errno));
    if (length == 0) break;
    text.append(step.data(), static_cast<std::size_t>(length));
    if (text.size() > text_file_length_max)
      refuse(path, fmt::format("it is longer than {} MiB", text_file_length_max >> 20));
  }
  // An empty file is a text without a word; an empty pipe is one that was read already.
  if (text.empty() && S_ISFIFO(status.st_mode))
    refuse(path, "it is an empty pipe that nobody writes into");
  return text;
}

}  // namespace server
