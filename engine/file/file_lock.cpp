#include "engine/file/file_lock.h"

#include <fcntl.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <limits>
#include <span>

namespace engine {

namespace {

// qemu's bytes (block/file-posix.c), one for each permission of its block layer: reading what is
// consistent, writing, writing what is there already, changing the size, and one of former times.
constexpr std::uint64_t uses = 100;            // and on: what somebody does
constexpr std::uint64_t does_not_share = 200;  // and on: what nobody else may do
constexpr std::uint64_t consistent_read = 0;
constexpr std::uint64_t write = 1;
constexpr std::uint64_t resize = 3;
constexpr std::uint64_t permission_count = 5;

// The bytes that windows leave out. A lock of ours covers the first or the last of them, which qemu
// never does: so loopnbds know each other, also those that locked all of the window. Their windows
// say whether they are at odds.
constexpr std::uint64_t first = 99;
constexpr std::uint64_t last = 299;

using Bytes = std::array<std::uint64_t, 2>;  // from, to; both included

struct flock make_lock(const Bytes& bytes, LockMode mode, bool to_the_end = false) noexcept {
  struct flock lock {};
  lock.l_type = F_RDLCK;
  if (mode == LockMode::none) lock.l_type = F_UNLCK;
  if (mode == LockMode::writing) lock.l_type = F_WRLCK;
  lock.l_whence = SEEK_SET;
  lock.l_start = static_cast<off_t>(bytes[0]);
  lock.l_len = to_the_end ? 0 : static_cast<off_t>(bytes[1] - bytes[0] + 1);
  return lock;
}

bool set(int fd, const Bytes& bytes, LockMode mode, bool to_the_end = false) noexcept {
  auto lock = make_lock(bytes, mode, to_the_end);
  return ::fcntl(fd, F_OFD_SETLK, &lock) == 0;
}

// The parts of the range before and behind the bytes that it leaves out.
bool set_window(int fd, const LockRange& range, LockMode mode) noexcept {
  constexpr auto end_max = static_cast<std::uint64_t>(std::numeric_limits<off_t>::max());
  const auto end = range.length == 0 ? end_max : range.offset + range.length;
  if (range.offset < first && !set(fd, {range.offset, std::min(end, first) - 1}, mode))
    return false;
  const auto begin = std::max(range.offset, last + 1);
  return begin >= end || set(fd, {begin, end - 1}, mode, range.length == 0);
}

// Shared ones, so that they stop nobody from saying what he does.
bool set_permissions(int fd, LockMode mode) noexcept {
  if (mode == LockMode::writing) return set(fd, {first, last}, LockMode::reading);
  const bool reading = mode == LockMode::reading;
  // In this order none that stays is given up for a moment.
  return (!reading || (set(fd, {first, uses + consistent_read}, LockMode::reading) &&
                       set(fd, {does_not_share + write, last}, LockMode::reading))) &&
         set(fd, {reading ? uses + write : first, reading ? does_not_share : last}, LockMode::none);
}

// Whether qemu has a lock of that byte.
LockAnswer ask(int fd, std::uint64_t byte) noexcept {
  auto lock = make_lock({byte, byte}, LockMode::writing);
  if (::fcntl(fd, F_OFD_GETLK, &lock) != 0) return LockAnswer::failed;
  if (lock.l_type == F_UNLCK) return LockAnswer::locked;
  const auto begin = static_cast<std::uint64_t>(lock.l_start);
  const auto end = begin + static_cast<std::uint64_t>(lock.l_len);
  const bool loopnbd = begin <= first || lock.l_len == 0 || end > last;
  return loopnbd ? LockAnswer::locked : LockAnswer::held_by_qemu;
}

LockAnswer ask_permissions(int fd, LockMode mode) noexcept {
  constexpr std::array against_reading{uses + write, uses + resize,
                                       does_not_share + consistent_read};
  if (mode == LockMode::reading) {
    for (const auto byte : against_reading)
      if (const auto answer = ask(fd, byte); answer != LockAnswer::locked) return answer;
  }
  if (mode != LockMode::writing) return LockAnswer::locked;
  for (const auto base : {uses, does_not_share})
    for (auto byte = base; byte < base + permission_count; ++byte)
      if (const auto answer = ask(fd, byte); answer != LockAnswer::locked) return answer;
  return LockAnswer::locked;
}

LockAnswer try_lock(int fd, const LockRange& range, LockMode mode) noexcept {
  if (!set_window(fd, range, mode))
    return errno == EAGAIN || errno == EACCES ? LockAnswer::held_by_window : LockAnswer::failed;
  if (!set_permissions(fd, mode)) return LockAnswer::failed;
  // Only now: who comes later sees these.
  return ask_permissions(fd, mode);
}

}  // namespace

LockAnswer change_lock(int fd, const LockRange& range, LockMode from, LockMode to) noexcept {
  const auto answer = try_lock(fd, range, to);
  if (answer == LockAnswer::locked) return answer;
  const int error = errno;
  set_permissions(fd, from);
  set_window(fd, range, from);
  errno = error;
  return answer;
}

}  // namespace engine
