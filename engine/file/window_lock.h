// The lock that keeps others off the window of a file, and how it passes from the devices that
// give way to the one that takes their place. That is a transaction: until commit() the others keep
// what they have, and get it back when it is destroyed before.
//
// take() locks what nobody has yet and lends what predecessors have locked for writing: the open
// file has the lock, so it lives on in a duplicate. Locks of readers stay with them until claim(),
// since a lock for writing wants a file that is open for writing; meanwhile both read.
//
// Used by one thread at a time.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <span>
#include <string_view>
#include <utility>
#include <vector>

#include "engine/file/file_lock.h"
#include "engine/file_descriptor.h"

namespace engine {

class WindowLock {
 public:
  // `report` hears of a lock that could not be given back.
  explicit WindowLock(std::function<void(std::string_view)> report = [](std::string_view) {})
      : report_(std::move(report)) {}
  ~WindowLock();
  WindowLock(const WindowLock&) = delete;
  WindowLock& operator=(const WindowLock&) = delete;

  // Once. `fd` is open for what `mode` says, and lives as long as this. With any other answer than
  // `locked` nothing is locked, and errno says why.
  LockAnswer take(int fd, const LockRange& range, LockMode mode,
                  std::span<const WindowLock* const> predecessors);
  // After take(), once: makes it the only lock of the window. The last step of a change that may
  // fail: with any other answer than `locked` it is as before.
  LockAnswer claim() noexcept;
  // After claim(): nothing goes back any more. A lock that was lent for writing is kept as `mode`
  // says.
  void commit() noexcept;

 private:
  // A part of the window, and the open file that has the lock of it.
  struct Part {
    int fd = -1;
    FileDescriptor duplicate;  // empty: `fd` is not ours to close
    LockRange range;
    // The part that the open file had locked when it was lent first. It is no less than `range`: a
    // window that has become smaller may become larger again.
    LockRange held;
    // Shared with those that it is lent to: they say what they have made of the lock.
    std::shared_ptr<LockMode> mode;
    std::shared_ptr<LockMode> lender = nullptr;
  };
  enum class Phase : std::uint8_t { none, taken, claimed, committed };

  void add_own(int fd, const LockRange& range, LockMode mode);
  void lend(const Part& part, const LockRange& range);
  LockAnswer lock_rest(int fd, const LockRange& range, LockMode mode);
  void take_back() noexcept;
  bool change_own(LockMode from, LockMode to) noexcept;

  const std::function<void(std::string_view)> report_;
  LockMode mode_ = LockMode::none;
  std::vector<Part> parts_;  // the window
  std::vector<Part> ceded_;  // of predecessors that read, for claim()
  Phase phase_ = Phase::none;
};

}  // namespace engine
