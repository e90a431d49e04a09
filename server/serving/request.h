// A request in flight, and the pieces it is done in. Both live in slots that do not move, since the
// kernel holds a pointer to the operation inside a piece. Slots belong to their worker's
// RequestPool; a connection holds them from the header's arrival until the reply has been sent.
//
// A request has one piece in its own slot, which does everything when one buffer is enough. A
// request that does not fit one buffer is done in further pieces, each in a slot of its own; its
// own piece then carries the end of the reply.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>
#include <string_view>
#include <vector>

#include "engine/buffer_pool.h"
#include "engine/check.h"
#include "engine/io.h"
#include "proto/reply.h"
#include "proto/request.h"
#include "server/base/metrics.h"

namespace server {

class Connection;
struct Request;

// One operation on the device, and its part of the reply; or only a part of the reply.
class Piece : public engine::Io {
 public:
  void complete(std::int64_t result) noexcept final;  // in connection.cpp: hands over to it

  Request* request = nullptr;  // that it is a piece of; nullptr: the slot is free
  Piece* next = nullptr;       // in the list that holds it: of free slots, of pieces, of replies
  engine::BufferPool::Buffer data;  // of READ, WRITE and BLOCK_STATUS
  bool completed = false;           // and waits for the pieces in front of it

  // The part of the reply: head, body, tail. The body is in `data` or in static storage.
  std::array<std::byte, 2 * proto::reply_header_size_max> head;
  std::array<std::byte, proto::reply_header_size_max> tail;
  std::uint8_t head_size = 0;
  std::uint8_t tail_size = 0;
  std::span<const std::byte> body;

  std::size_t reply_size() const noexcept { return head_size + body.size() + tail_size; }
};

// Where a request is.
enum class RequestState : std::uint8_t {
  waiting,    // for slots or buffers, and nothing of it is under way
  receiving,  // its payload is received, and nothing else of it is under way
  on_device,  // the device has some of its pieces
  held,       // some of its pieces wait for their device, which is at rest
  replying,   // its reply waits to be sent, or is sent
};

// The same for people: "queue", "device", "pause", "send".
std::string_view stage_of(RequestState state) noexcept;

// How far a request has come; begins anew with each.
struct RequestProgress {
  RequestState state = RequestState::waiting;
  bool all_submitted = false;  // no further piece will be
  bool reported_slow = false;  // while it was under way
  // A READ whose pieces must be sent in order, without chunk headers.
  bool in_order = false;  // it is one, and listed
  bool reply_begun = false;
  std::uint32_t pieces_in_flight = 0;       // submitted and not completed
  proto::Error error = proto::Error::none;  // the first one
  std::string_view error_text;              // static storage
  Piece* first_piece = nullptr;             // in order, of those not sent yet
  Piece* last_piece = nullptr;
  Request* next_in_order = nullptr;
};

struct Request : RequestProgress {
  // Outlives its requests: it drains before it dies. nullptr: no request is in the slot.
  Connection* connection = nullptr;
  Piece* own = nullptr;         // the piece in its slot
  proto::RequestHeader header;  // as the client sent it
  proto::ContextIds contexts;   // that a BLOCK_STATUS reports

  // When its header arrived, and when its last piece so far was submitted and completed.
  Clock::time_point received;
  Clock::time_point submitted;
  Clock::time_point completed_at;

  bool has_flag(std::uint16_t flag) const noexcept { return (header.flags & flag) != 0; }
  // Once its reply waits to be sent, nothing else happens to it any more.
  void enter(RequestState next) noexcept {
    LOOPNBD_ASSERT(state != RequestState::replying || next == RequestState::replying);
    state = next;
    LOOPNBD_ASSERT(invariants());
  }
  void piece_submitted(Clock::time_point now, bool queue_is_held) noexcept {
    LOOPNBD_ASSERT(state != RequestState::replying);
    ++pieces_in_flight;
    submitted = now;
    // Pieces that wait for a device at rest are what holds the request up, until it goes on.
    if (state != RequestState::held)
      state = queue_is_held ? RequestState::held : RequestState::on_device;
  }
  void piece_completed(Clock::time_point now) noexcept {
    LOOPNBD_ASSERT(pieces_in_flight > 0);
    completed_at = now;
    if (--pieces_in_flight > 0) return;
    using enum RequestState;
    const auto expects_payload = header.command == proto::Command::write;
    enter(all_submitted ? replying : expects_payload ? receiving : waiting);
  }
  // Nothing of it is under way, nor will be.
  bool is_over() const noexcept { return all_submitted && pieces_in_flight == 0; }
  bool invariants() const noexcept;
};

// The slots of one worker. Grows in blocks up to a bound and never shrinks. Used by one thread.
class RequestPool {
 public:
  // `resident`: all of them are made now.
  explicit RequestPool(std::size_t count_max, bool resident = false);

  // A slot with a new request, or with a further piece of one. nullptr when there is none for a
  // connection that holds `held` of them: as with buffers, a connection that holds many must leave
  // as many to others.
  Request* take_request(Connection& connection, std::size_t held);
  Piece* take_piece(Request& request, std::size_t held);
  // Gives the slot back, and the buffer of the piece. The own piece of a request comes last and
  // takes the request along.
  void give_back(Piece& piece) noexcept;

  std::size_t taken() const noexcept { return taken_; }  // slots
  // Every request there is, in no particular order.
  template <typename Visit>
  void for_each_request(const Visit& visit) {
    auto left = taken_;
    for (auto block = blocks_.begin(); left > 0 && block != blocks_.end(); ++block)
      for (auto& slot : **block) {
        if (slot.request == nullptr) continue;
        --left;
        if (slot.own_request.connection != nullptr) visit(slot.own_request);
      }
  }
  bool invariants() const noexcept;

 private:
  struct Slot final : Piece {
    Request own_request;
  };
  static constexpr std::size_t block_count = 64;

  void make_block();
  Slot* take(std::size_t held);

  std::size_t free_;  // slots not taken, made or not
  std::size_t taken_ = 0;
  Piece* first_free_ = nullptr;
  std::vector<std::unique_ptr<std::array<Slot, block_count>>> blocks_;
};

// Inline, as is what follows every request: calls between files are a part of its cost.

inline RequestPool::Slot* RequestPool::take(std::size_t held) {
  if (held >= free_) return nullptr;
  if (first_free_ == nullptr) make_block();
  auto& slot = static_cast<Slot&>(*first_free_);
  LOOPNBD_ASSERT(slot.request == nullptr && !slot.data);
  first_free_ = slot.next;
  --free_;
  ++taken_;
  slot.next = nullptr;
  slot.set_request({});
  slot.completed = false;
  slot.head_size = slot.tail_size = 0;
  slot.body = {};
  return &slot;
}

inline Request* RequestPool::take_request(Connection& connection, std::size_t held) {
  auto* const slot = take(held);
  if (slot == nullptr) return nullptr;
  auto& request = slot->own_request;
  static_cast<RequestProgress&>(request) = {};  // the connection sets the header and the times
  request.connection = &connection;
  request.own = slot;
  slot->request = &request;
  return &request;
}

inline Piece* RequestPool::take_piece(Request& request, std::size_t held) {
  LOOPNBD_ASSERT(request.connection != nullptr);
  auto* const slot = take(held);
  if (slot != nullptr) slot->request = &request;
  return slot;
}

inline void RequestPool::give_back(Piece& piece) noexcept {
  LOOPNBD_ASSERT(piece.request != nullptr && taken_ > 0);
  auto& request = *piece.request;
  LOOPNBD_ASSERT(&piece != request.own || request.pieces_in_flight == 0);
  if (&piece == request.own) request.connection = nullptr;
  piece.data.reset();
  piece.request = nullptr;
  piece.next = first_free_;
  first_free_ = &piece;
  ++free_;
  --taken_;
}

}  // namespace server
