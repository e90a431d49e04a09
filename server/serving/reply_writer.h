// Turns the results of operations into replies, and puts them in order: the first to be ready is
// the first to be sent, but for READs that are answered by one simple reply from several pieces.
// Belongs to one connection; requests are given back through its slots. Used on its worker's
// thread.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <string_view>
#include <vector>

#include "proto/reply.h"
#include "proto/request.h"
#include "server/export/status_contexts.h"
#include "server/serving/reply_queue.h"
#include "server/serving/request.h"
#include "server/serving/request_slots.h"

namespace server {

class ReplyWriter {
 public:
  // `contexts`: all that a BLOCK_STATUS may report.
  ReplyWriter(proto::HeaderStyle style, RequestSlots& slots,
              std::span<const StatusContext> contexts = status_contexts()) noexcept
      : style_(style), slots_(slots), contexts_(contexts) {}

  // The one reply, or the last chunk, of a request without further content.
  void answer(Request& request) noexcept;
  void answer_if_over(Request& request) noexcept {
    if (request.is_over()) answer(request);
  }
  void refuse(Request& request, proto::Error error, std::string_view text) noexcept;
  // An operation of the request has failed; its reply will say so. Returns the error that it says.
  static proto::Error fail(Request& request, int error_number) noexcept;
  // A piece of it must be sent behind those listed before, without a header of its own.
  void list_in_order(Piece& piece) noexcept;
  // The operation of the piece has completed, with `length` or -errno. False: a reply that has
  // begun cannot be continued, and nothing more can be sent.
  bool complete(Piece& piece, std::int64_t result) noexcept;

  // Nothing can be sent now.
  bool empty() const noexcept { return ready_.empty(); }
  // The front of what can be sent, as much as fits. Valid until the next call of another member.
  std::span<const iovec> gather(GatherBuffer& buffer) const noexcept {
    return ready_.gather(buffer);
  }
  // `count` bytes of it have been sent; calls answered(request) for each request whose last byte
  // was among them, then gives it back.
  template <typename Answered>
  void consume(std::size_t count, const Answered& answered) noexcept {
    ready_.consume(count, [&](Piece& piece) {
      if (&piece == piece.request->own) answered(*piece.request);
      slots_.give_back(piece);
    });
  }
  // A copy of all that waits to be sent.
  std::vector<std::byte> unsent() const;

  // Nothing can be sent any more: gives back everything that waits to be sent.
  void drop_ready() noexcept;
  // Gives back the listed READs and their completed pieces; those in flight go when they complete.
  void drop_listed() noexcept;

  bool invariants() const noexcept;

 private:
  bool complete_read(Piece& piece, bool success) noexcept;
  void complete_block_status(Request& request, std::int64_t result) noexcept;
  void encode_read(Piece& piece, bool done) const noexcept;
  bool send_in_order() noexcept;
  bool move_first_in_order() noexcept;
  void enqueue(Piece& piece) noexcept;
  proto::ReplyTo reply_to(const Request& request) const noexcept;

  const proto::HeaderStyle style_;
  RequestSlots& slots_;
  const std::span<const StatusContext> contexts_;
  ReplyQueue ready_;
  ReplyQueue held_back_;               // behind a simple reply of which only a part is ready
  Request* first_in_order_ = nullptr;  // READs whose pieces must leave in order, oldest first
  Request* last_in_order_ = nullptr;
};

// Inline: on the path of every request.

inline void ReplyWriter::enqueue(Piece& piece) noexcept {
  const auto in_the_middle = first_in_order_ != nullptr && first_in_order_->reply_begun;
  (in_the_middle ? held_back_ : ready_).push(piece);
}

inline bool ReplyWriter::complete(Piece& piece, std::int64_t result) noexcept {
  auto& request = *piece.request;
  if (request.header.command == proto::Command::read) return complete_read(piece, result >= 0);
  if (request.header.command == proto::Command::block_status) {
    complete_block_status(request, result);
    return true;
  }
  if (&piece != request.own) slots_.give_back(piece);
  answer_if_over(request);
  return true;
}

}  // namespace server
