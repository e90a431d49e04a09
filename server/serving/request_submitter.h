// Turns requests into operations: takes buffers, cuts what does not fit one of them into pieces,
// and submits these to the export's queue. Works on one request at a time; a request that lacks
// slots, buffers or bytes of its payload stays the current one. Belongs to one connection; used on
// its worker's thread.
#pragma once

#include <cstddef>
#include <cstdint>

#include "proto/request.h"
#include "server/export/export_queue.h"
#include "server/serving/connection_host.h"
#include "server/serving/reply_writer.h"
#include "server/serving/request.h"
#include "server/serving/request_framer.h"
#include "server/serving/request_slots.h"

namespace server {

class RequestSubmitter {
 public:
  // All outlive this object.
  RequestSubmitter(ConnectionHost& host, ExportQueue& queue, RequestSlots& slots,
                   ReplyWriter& replies, proto::HeaderStyle style);

  // Of a request that is valid and has something to do. `has_payload`: fill() or
  // begin_block_status() goes on with it; otherwise resume().
  Need begin(Request& request, bool has_payload) noexcept;
  // The request that is not all submitted, or nullptr.
  Request* current() const noexcept { return current_; }
  // Of a READ or BLOCK_STATUS that lacked slots or buffers.
  Need resume() noexcept;
  // Of a WRITE: takes its payload out of `framer` and submits what is complete.
  Need fill(RequestFramer& framer) noexcept;
  // A piece waits for its bytes.
  bool filling() const noexcept { return filling_ != nullptr; }
  // The current request gets no further: returns it, and there is none any more.
  Request& interrupt() noexcept;
  // The current request gets no further, and has to be refused.
  Request& drop_current() noexcept;

  // An operation has completed.
  void note_completed(const Piece& piece) noexcept {
    --in_flight_;
    changes_in_flight_ -= changes(piece);
  }
  std::size_t in_flight() const noexcept { return in_flight_; }  // operations
  // Those of them that change the device.
  std::size_t changes_in_flight() const noexcept { return changes_in_flight_; }
  bool invariants() const noexcept;

 private:
  Need submit_read_pieces() noexcept;
  Need submit_block_status() noexcept;
  Piece* take_piece(engine::Operation operation, bool undivided) noexcept;
  Need submit_undivided(Request& request, engine::Operation operation) noexcept;
  void submit(Piece& piece) noexcept;
  static bool changes(const Piece& piece) noexcept {
    using enum engine::Operation;
    return piece.operation == write || piece.operation == discard ||
           piece.operation == write_zeroes;
  }

  ConnectionHost& host_;
  ExportQueue& queue_;
  RequestSlots& slots_;
  ReplyWriter& replies_;
  const bool replies_are_simple_;
  const std::uint32_t block_size_;  // bytes: what requests are laid out for
  Request* current_ = nullptr;
  Piece* filling_ = nullptr;       // of a WRITE
  std::uint64_t next_offset_ = 0;  // where the next piece of current_ begins
  std::uint64_t remaining_ = 0;    // bytes of current_ without a piece
  std::size_t in_flight_ = 0;
  std::size_t changes_in_flight_ = 0;
};

// Inline: on the path of every request.
inline void RequestSubmitter::submit(Piece& piece) noexcept {
  ++in_flight_;
  changes_in_flight_ += changes(piece);
  piece.request->piece_submitted(host_.now(), queue_.held());
  host_.submit(queue_, piece);
}

}  // namespace server
