// The rights of queues over an Io that others do not have: to chain it, and to keep their own words
// inside it while they own it (from submit() until complete(), or until they hand the same Io to a
// queue below them, which then owns both fields). Thread: whoever owns the Io at the moment.
#pragma once

#include <cstddef>
#include <new>
#include <type_traits>
#include <utility>

#include "engine/io.h"

namespace engine {

class IoAccess {
 public:
  static Io*& next(Io& io) noexcept { return io.next_; }

  // Makes a T inside the Io. There is no destruction: the next owner builds its own over it.
  template <class T, class... Arguments>
  static T& emplace(Io& io, Arguments&&... arguments) noexcept {
    static_assert(sizeof(T) <= sizeof(Io::kernel_block_));
    static_assert(alignof(T) <= 8);
    static_assert(std::is_trivially_destructible_v<T>);
    return *::new (io.kernel_block_.data()) T(std::forward<Arguments>(arguments)...);
  }

  // Where emplace() puts it.
  static const void* memory(const Io& io) noexcept { return io.kernel_block_.data(); }

  // The T that the present owner made with emplace().
  template <class T>
  static T& get(Io& io) noexcept {
    return *std::launder(reinterpret_cast<T*>(io.kernel_block_.data()));
  }
};

// First in, first out, chained through the Ios themselves: no allocation. An Io is in one list at a
// time.
class IoList {
 public:
  IoList() = default;
  IoList(IoList&& other) noexcept
      : first_(std::exchange(other.first_, nullptr)),
        last_(std::exchange(other.last_, nullptr)),
        size_(std::exchange(other.size_, 0)) {}
  IoList& operator=(IoList&& other) noexcept {
    first_ = std::exchange(other.first_, nullptr);
    last_ = std::exchange(other.last_, nullptr);
    size_ = std::exchange(other.size_, 0);
    return *this;
  }

  bool empty() const noexcept { return first_ == nullptr; }
  std::size_t size() const noexcept { return size_; }
  Io* front() const noexcept { return first_; }

  void push_back(Io& io) noexcept {
    IoAccess::next(io) = nullptr;
    (last_ != nullptr ? IoAccess::next(*last_) : first_) = &io;
    last_ = &io;
    ++size_;
  }

  // nullptr when empty.
  Io* pop_front() noexcept {
    Io* const io = first_;
    if (io == nullptr) return nullptr;
    first_ = IoAccess::next(*io);
    if (first_ == nullptr) last_ = nullptr;
    IoAccess::next(*io) = nullptr;
    --size_;
    return io;
  }

  // Empties `other` behind what is here.
  void splice_back(IoList& other) noexcept {
    if (other.empty()) return;
    (last_ != nullptr ? IoAccess::next(*last_) : first_) = other.first_;
    last_ = other.last_;
    size_ += other.size_;
    other = IoList();
  }

 private:
  Io* first_ = nullptr;
  Io* last_ = nullptr;
  std::size_t size_ = 0;
};

}  // namespace engine
