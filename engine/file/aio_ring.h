// The completion ring of a libaio context, read without a system call. The kernel maps it into the
// process; its layout is kernel ABI (fs/aio.c, struct aio_ring) although no header declares it,
// hence the check of its magic and feature words. One thread harvests, and nobody calls
// io_getevents() on the same context meanwhile.
#pragma once

#include <libaio.h>

#include <atomic>
#include <cstddef>

namespace engine {

class AioRing {
 public:
  // An io_context_t is the address of its ring.
  explicit AioRing(io_context_t context) noexcept : header_(reinterpret_cast<Header*>(context)) {}

  // False: the kernel lays the ring out in a way that is not known here; use io_getevents().
  bool usable() const noexcept {
    return header_->magic == 0xa10a10a1 && header_->incompatible_features == 0 &&
           header_->header_length == sizeof(Header) && header_->count > 0;
  }

  bool empty() const noexcept {
    const std::atomic_ref shared_head(header_->head);
    const std::atomic_ref shared_tail(header_->tail);
    return shared_head.load(std::memory_order_relaxed) ==
           shared_tail.load(std::memory_order_acquire);
  }

  // Takes the oldest event; false when there is none.
  bool pop(io_event& event) noexcept {
    // Only this thread moves head. The kernel writes the events before it moves tail, hence
    // acquire; release hands the slot back to it once the event has been read.
    const std::atomic_ref shared_head(header_->head);
    const std::atomic_ref shared_tail(header_->tail);
    const unsigned head = shared_head.load(std::memory_order_relaxed);
    if (head == shared_tail.load(std::memory_order_acquire)) return false;
    event = events()[head];
    shared_head.store(head + 1 == header_->count ? 0 : head + 1, std::memory_order_release);
    return true;
  }

 private:
  struct Header {
    unsigned id;
    unsigned count;  // slots of the ring
    unsigned head;   // index of the oldest event
    unsigned tail;   // index behind the youngest
    unsigned magic;
    unsigned compatible_features;
    unsigned incompatible_features;
    unsigned header_length;  // bytes; the slots follow
  };
  static_assert(sizeof(Header) == 32);

  const io_event* events() const noexcept { return reinterpret_cast<const io_event*>(header_ + 1); }

  Header* header_;
};

}  // namespace engine
