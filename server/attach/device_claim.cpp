#include "server/attach/device_claim.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <sys/stat.h>

#include <array>
#include <cerrno>
#include <charconv>
#include <cstring>
#include <stdexcept>
#include <string>

namespace server {
namespace {

struct Record {
  pid_t pid = 0;
  std::uint32_t connections = 0;
};

std::filesystem::path file_of(std::uint32_t index, const std::filesystem::path& folder) {
  return folder / fmt::format("nbd{}", index);
}

// "PID CONNECTIONS\n"
std::optional<Record> read_record(int fd) {
  auto text = std::array<char, 64>{};
  const auto size = ::pread(fd, text.data(), text.size(), 0);
  if (size <= 0) return std::nullopt;
  const auto* const end = text.data() + size;
  auto record = Record{};
  const auto pid = std::from_chars(text.data(), end, record.pid);
  if (pid.ec != std::errc{} || pid.ptr == end) return std::nullopt;
  const auto connections = std::from_chars(pid.ptr + 1, end, record.connections);
  if (connections.ec != std::errc{} || record.pid <= 0) return std::nullopt;
  return record;
}

struct flock whole_file() noexcept {
  struct flock lock {};
  lock.l_type = F_WRLCK;
  lock.l_whence = SEEK_SET;
  return lock;
}

}  // namespace

std::optional<DeviceClaim> DeviceClaim::take(std::uint32_t index,
                                             const std::filesystem::path& folder) {
  ::mkdir(folder.c_str(), 0755);  // if it cannot be made, open() says why
  const auto path = file_of(index, folder);
  auto file =
      engine::FileDescriptor(::open(path.c_str(), O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0644));
  if (!file)
    throw std::runtime_error(fmt::format("cannot claim /dev/nbd{}: {}: {}{}", index, path.native(),
                                         std::strerror(errno),
                                         errno == EACCES ? "; attaching needs root" : ""));
  auto lock = whole_file();
  if (::fcntl(file.get(), F_OFD_SETLK, &lock) != 0) return std::nullopt;
  return DeviceClaim(std::move(file));
}

void DeviceClaim::record(std::uint32_t connections) const {
  const auto text = fmt::format("{} {}\n", ::getpid(), connections);
  const auto size = static_cast<ssize_t>(text.size());
  if (::pwrite(file_.get(), text.data(), text.size(), 0) != size ||
      ::ftruncate(file_.get(), size) != 0)
    throw std::runtime_error(
        fmt::format("cannot write to {}: {}", claim_folder, std::strerror(errno)));
}

std::optional<std::uint32_t> DeviceClaim::recorded_connections() const {
  const auto record = read_record(file_.get());
  if (!record || record->connections == 0) return std::nullopt;
  return record->connections;
}

std::optional<pid_t> DeviceClaim::owner(std::uint32_t index, const std::filesystem::path& folder) {
  const auto file =
      engine::FileDescriptor(::open(file_of(index, folder).c_str(), O_RDONLY | O_CLOEXEC));
  if (!file) return std::nullopt;
  auto lock = whole_file();
  lock.l_type = F_RDLCK;  // a reader's question about a writer's lock
  if (::fcntl(file.get(), F_OFD_GETLK, &lock) != 0 || lock.l_type == F_UNLCK) return std::nullopt;
  const auto record = read_record(file.get());
  return record ? record->pid : 0;
}

}  // namespace server
