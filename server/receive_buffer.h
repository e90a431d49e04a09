// Bytes received and not yet consumed. Takes its memory from the worker's pool only while it holds
// bytes; the beginning of a header that remains is kept inside, so that an idle client costs no
// buffer. Invariant: the unconsumed bytes are contiguous, in the buffer or, when it is away, in
// remainder_.
#pragma once

#include <array>
#include <cstddef>
#include <cstring>
#include <span>

#include "engine/buffer_pool.h"
#include "proto/request.h"

namespace server {

class ReceiveBuffer {
 public:
  std::span<const std::byte> unconsumed() const noexcept {
    return memory_ ? std::span<const std::byte>(memory_.memory() + begin_, end_ - begin_)
                   : std::span<const std::byte>(remainder_).first(remainder_size_);
  }

  void consume(std::size_t count) noexcept {
    if (memory_) {
      begin_ += count;
    } else {
      std::memmove(remainder_.data(), remainder_.data() + count, remainder_size_ - count);
      remainder_size_ -= count;
    }
  }

  // Makes room to receive into. False: the pool has no buffer for somebody who holds `held` bytes
  // of others.
  bool make_room(engine::BufferPool& pool, std::size_t held) noexcept {
    if (!memory_) {
      memory_ = pool.take(size_wanted, engine::buffer_size_min, held);
      if (!memory_) return false;
      std::memcpy(memory_.memory(), remainder_.data(), remainder_size_);
      begin_ = 0;
      end_ = remainder_size_;
      remainder_size_ = 0;
    } else if (begin_ > 0) {
      std::memmove(memory_.memory(), memory_.memory() + begin_, end_ - begin_);
      end_ -= begin_;
      begin_ = 0;
    }
    return true;
  }
  std::span<std::byte> room() const noexcept {
    return {memory_.memory() + end_, memory_.size() - end_};
  }
  void received(std::size_t count) noexcept { end_ += count; }

  // Gives the buffer back when no more than the beginning of a header is in it.
  void release_if_possible() noexcept {
    if (!memory_ || end_ - begin_ > remainder_.size()) return;
    remainder_size_ = end_ - begin_;
    std::memcpy(remainder_.data(), memory_.memory() + begin_, remainder_size_);
    memory_.reset();
  }

  std::size_t held() const noexcept { return memory_.size(); }  // bytes of the pool

 private:
  static constexpr std::size_t size_wanted = 64U << 10;

  engine::BufferPool::Buffer memory_;
  std::size_t begin_ = 0;
  std::size_t end_ = 0;
  std::array<std::byte, proto::request_size_max> remainder_{};
  std::size_t remainder_size_ = 0;
};

}  // namespace server
