// Replies of one connection on their way out, first come, first sent. Heads and tails are gathered
// side by side, so that many acknowledgements leave as one buffer; bodies are sent from where they
// are.
#pragma once

#include <sys/uio.h>

#include <array>
#include <cstddef>
#include <span>
#include <utility>
#include <vector>

#include "server/serving/request.h"

namespace server {

// Room to gather one system call's worth of replies; one for each worker.
struct GatherBuffer {
  std::array<iovec, 256> vectors;
  std::array<std::byte, 16U << 10> bytes;
};

class ReplyQueue {
 public:
  bool empty() const noexcept { return first_ == nullptr; }

  void push(Piece& piece) noexcept {
    piece.next = nullptr;
    (last_ == nullptr ? first_ : last_->next) = &piece;
    last_ = &piece;
  }
  // Everything of `other`, behind what is here.
  void append(ReplyQueue& other) noexcept;

  // Describes the front of what is to be sent, as much as fits. Valid until the queue or `buffer`
  // changes.
  std::span<const iovec> gather(GatherBuffer& buffer) const noexcept;

  // `count` bytes have been sent; calls sent(piece) for each piece whose last byte was among
  // them.
  template <typename Sent>
  void consume(std::size_t count, Sent sent) noexcept {
    sent_of_first_ += count;
    while (first_ != nullptr && sent_of_first_ >= first_->reply_size()) {
      sent_of_first_ -= first_->reply_size();
      sent(pop());
    }
  }

  // A copy of all that is to be sent.
  std::vector<std::byte> unsent() const;

  // Takes the first piece out, sent or not.
  Piece& pop() noexcept {
    auto& piece = *std::exchange(first_, first_->next);
    if (first_ == nullptr) last_ = nullptr;
    return piece;
  }

 private:
  Piece* first_ = nullptr;
  Piece* last_ = nullptr;
  std::size_t sent_of_first_ = 0;  // bytes
};

}  // namespace server
