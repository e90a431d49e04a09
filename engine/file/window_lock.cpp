#include "engine/file/window_lock.h"

#include <fcntl.h>

#include <algorithm>
#include <cerrno>
#include <cstdint>
#include <limits>
#include <memory>
#include <utility>

#include "engine/check.h"

namespace engine {

namespace {

constexpr auto window_end_max = std::numeric_limits<std::uint64_t>::max();

std::uint64_t end_of(const LockRange& range) noexcept {
  return range.length == 0 ? window_end_max : range.offset + range.length;
}

LockRange make_range(std::uint64_t begin, std::uint64_t end) noexcept {
  return {.offset = begin, .length = end == window_end_max ? 0 : end - begin};
}

bool overlap(const LockRange& one, const LockRange& other) noexcept {
  return one.offset < end_of(other) && other.offset < end_of(one);
}

LockRange common(const LockRange& one, const LockRange& other) noexcept {
  return make_range(std::max(one.offset, other.offset), std::min(end_of(one), end_of(other)));
}

// The parts of the ranges outside of `hole`.
std::vector<LockRange> without(const std::vector<LockRange>& ranges, const LockRange& hole) {
  std::vector<LockRange> rest;
  for (const auto& range : ranges) {
    if (!overlap(range, hole)) {
      rest.push_back(range);
      continue;
    }
    if (range.offset < hole.offset) rest.push_back(make_range(range.offset, hole.offset));
    if (end_of(hole) < end_of(range)) rest.push_back(make_range(end_of(hole), end_of(range)));
  }
  return rest;
}

}  // namespace

WindowLock::~WindowLock() {
  if (phase_ == Phase::claimed) take_back();
}

LockAnswer WindowLock::take(int fd, const LockRange& range, LockMode mode,
                            std::span<const WindowLock* const> predecessors) {
  LOOPNBD_ASSERT(phase_ == Phase::none);
  mode_ = mode;
  auto answer = change_lock(fd, range, LockMode::none, mode);
  if (answer == LockAnswer::locked) {
    add_own(fd, range, mode);
  } else {
    const int error = errno;
    for (const auto* const predecessor : predecessors)
      for (const auto& part : predecessor->parts_) lend(part, range);
    if (parts_.empty() && ceded_.empty()) {
      errno = error;
      return answer;
    }
    answer = lock_rest(fd, range, mode);
  }
  if (answer == LockAnswer::locked) phase_ = Phase::taken;
  return answer;
}

void WindowLock::lend(const Part& part, const LockRange& range) {
  const auto mode = *part.mode;
  if (mode == LockMode::none || !overlap(part.held, range)) return;
  if (mode == LockMode::reading && mode_ == LockMode::reading) return;
  auto duplicate = FileDescriptor(::fcntl(part.fd, F_DUPFD_CLOEXEC, 0));
  if (!duplicate) return;
  const int fd = duplicate.get();
  auto& list = mode == LockMode::writing ? parts_ : ceded_;
  list.push_back({.fd = fd,
                  .duplicate = std::move(duplicate),
                  .range = common(part.held, range),
                  .held = part.held,
                  .mode = std::make_shared<LockMode>(mode),
                  .lender = part.mode});
}

void WindowLock::add_own(int fd, const LockRange& range, LockMode mode) {
  parts_.push_back({.fd = fd,
                    .duplicate = {},
                    .range = range,
                    .held = range,
                    .mode = std::make_shared<LockMode>(mode)});
}

// Locks what of the window nobody has lent. Beside readers that will cede theirs it is read until
// then.
LockAnswer WindowLock::lock_rest(int fd, const LockRange& range, LockMode mode) {
  std::vector<LockRange> rest{range};
  for (const auto& part : parts_) rest = without(rest, part.range);
  const auto now = ceded_.empty() ? mode : LockMode::reading;
  for (const auto& piece : rest) {
    if (const auto answer = change_lock(fd, piece, LockMode::none, now);
        answer != LockAnswer::locked) {
      // The others have been locked here only, and `mode` is not offered to anybody.
      const int error = errno;
      change_own(now, LockMode::none);
      parts_.clear();
      ceded_.clear();
      errno = error;
      return answer;
    }
    add_own(fd, piece, now);
  }
  return LockAnswer::locked;
}

LockAnswer WindowLock::claim() noexcept {
  if (phase_ == Phase::none) return LockAnswer::locked;
  LOOPNBD_ASSERT(phase_ == Phase::taken);
  phase_ = Phase::claimed;
  if (ceded_.empty()) return LockAnswer::locked;
  // Nobody can come between: this one reads, too.
  for (const auto& part : ceded_)
    change_lock(part.fd, part.range, LockMode::reading, LockMode::none);
  for (const auto& part : parts_) {
    if (part.duplicate || *part.mode == mode_) continue;
    const auto answer = change_lock(part.fd, part.range, *part.mode, mode_);
    if (answer == LockAnswer::locked) {
      *part.mode = mode_;
      continue;
    }
    const int error = errno;
    take_back();
    phase_ = Phase::taken;
    errno = error;
    return answer;
  }
  return LockAnswer::locked;
}

void WindowLock::commit() noexcept {
  if (phase_ == Phase::none) return;
  LOOPNBD_ASSERT(phase_ == Phase::claimed);
  phase_ = Phase::committed;
  for (const auto& part : ceded_) *part.lender = LockMode::none;
  ceded_.clear();
  for (const auto& part : parts_) {
    if (*part.mode == mode_) continue;
    if (change_lock(part.fd, part.range, *part.mode, mode_) == LockAnswer::locked)
      *part.mode = *part.lender = mode_;
    else
      report_("its lock stays one for writing, so that nobody else can read the file");
  }
}

// The readers lock again what they have ceded, while nobody can write: this one reads, too.
void WindowLock::take_back() noexcept {
  if (ceded_.empty()) return;
  auto given_back = change_own(LockMode::writing, LockMode::reading);
  for (const auto& part : ceded_)
    given_back =
        change_lock(part.fd, part.range, LockMode::none, LockMode::reading) == LockAnswer::locked &&
        given_back;
  if (!given_back)
    report_(
        "its lock was lost when a change was undone: others may write the file; restart this "
        "server");
}

bool WindowLock::change_own(LockMode from, LockMode to) noexcept {
  auto changed = true;
  for (const auto& part : parts_) {
    if (part.duplicate || *part.mode != from) continue;
    if (change_lock(part.fd, part.range, from, to) == LockAnswer::locked)
      *part.mode = to;
    else
      changed = false;
  }
  return changed;
}

}  // namespace engine
