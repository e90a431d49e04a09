// Bytes received and not yet consumed. Takes its memory from the worker's pool only while it holds
// bytes; the beginning of a header that remains is kept inside, so that an idle client costs no
// buffer.
#pragma once

#include <algorithm>
#include <array>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <span>

#include "engine/buffer_pool.h"
#include "engine/check.h"
#include "proto/request.h"

namespace server {

class ReceiveBuffer {
 public:
  // A shorter payload is cheaper to copy out of here than to receive apart.
  static constexpr std::size_t long_payload_min = 32U << 10;  // bytes

  std::span<const std::byte> unconsumed() const noexcept {
    return {(memory_ ? memory_.memory() : remainder_.data()) + begin_, end_ - begin_};
  }

  void consume(std::size_t count) noexcept {
    begin_ += count;
    LOOPNBD_ASSERT(invariants());
  }

  // Makes room to receive into. False: the pool has no buffer for a holder of `held` other bytes.
  bool make_room(engine::BufferPool& pool, std::size_t held) noexcept {
    if (!memory_) {
      const auto wanted =
          long_payloads_ < long_payloads_max ? size_wanted_ : engine::buffer_size_min;
      memory_ = pool.take(wanted, engine::buffer_size_min, held);
      if (!memory_) return false;
      std::memcpy(memory_.memory(), remainder_.data() + begin_, end_ - begin_);
    } else if (begin_ > 0) {
      std::memmove(memory_.memory(), memory_.memory() + begin_, end_ - begin_);
    }
    end_ -= begin_;
    begin_ = 0;
    return true;
  }
  std::span<std::byte> room() const noexcept {
    return {memory_.memory() + end_, memory_.size() - end_};
  }
  void received(std::size_t count) noexcept {
    if (count == room().size()) size_wanted_ = std::min(2 * size_wanted_, size_max);
    end_ += count;
    LOOPNBD_ASSERT(memory_ && invariants());
  }

  // A payload of `length` follows. A client that sends only long ones gets little room: what finds
  // none here is received where it belongs.
  void expect_payload(std::uint64_t length) noexcept {
    long_payloads_ = length >= long_payload_min ? long_payloads_ + 1 : 0;
  }

  // Gives the buffer back when no more than the beginning of a header is in it.
  void release_if_possible() noexcept {
    if (!memory_ || end_ - begin_ > remainder_.size()) return;
    end_ -= begin_;
    std::memcpy(remainder_.data(), memory_.memory() + begin_, end_);
    begin_ = 0;
    memory_.reset();
  }

  std::size_t held() const noexcept { return memory_.size(); }  // bytes of the pool

  // The unconsumed bytes are contiguous, in the buffer or, when it is away, in remainder_.
  bool invariants() const noexcept {
    return begin_ <= end_ && end_ <= (memory_ ? memory_.size() : remainder_.size());
  }

 private:
  static constexpr std::size_t size_max = 256U << 10;  // bytes
  static constexpr std::size_t long_payloads_max = 8;  // in a row; more are a habit

  engine::BufferPool::Buffer memory_;
  std::size_t size_wanted_ = 64U << 10;  // bytes; more for a client that fills it
  std::size_t long_payloads_ = 0;        // in a row
  std::array<std::byte, proto::request_size_max> remainder_{};
  std::size_t begin_ = 0;  // of the unconsumed bytes, wherever they are
  std::size_t end_ = 0;
};

}  // namespace server
