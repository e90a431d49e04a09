// Finds the requests in what a client sends: headers, and the payloads that follow some of them.
// Knows no socket, no worker and no device: it says where the next bytes belong, is told how many
// came, and describes the request at the front. Its owner gives payloads a place and asks for the
// next request when the one before needs nothing more from the stream. Used by one thread.
//
// A payload must never be taken for requests: it is file contents, which would command the server.
// Spec: "Transmission phase".
#pragma once

#include <sys/uio.h>

#include <array>
#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>
#include <vector>

#include "engine/buffer_pool.h"
#include "proto/request.h"
#include "server/serving/receive_buffer.h"

namespace server {

class RequestFramer {
 public:
  // The kinds of bytes that come next.
  enum class Phase : std::uint8_t {
    header,
    payload,               // of a WRITE: fill() moves it to where place() says
    block_status_payload,  // take_block_status_payload() returns it
    discarded_payload,     // of a refused request: discard() skips it
  };
  // The front of the stream in phase header.
  enum class Front : std::uint8_t {
    incomplete,
    request,  // header() and verdict() describe it; begin() consumes its header
    broken,   // verdict().reason says why nothing more can be read
  };
  // Where the next bytes are to be received. Empty: there is no buffer for them.
  struct Room {
    std::array<iovec, 2> vectors;
    std::size_t count = 0;
    std::size_t size = 0;  // bytes
    std::span<const iovec> parts() const noexcept { return std::span(vectors).first(count); }
  };

  explicit RequestFramer(const proto::RequestRules& rules) noexcept : rules_(rules) {}

  Phase phase() const noexcept { return phase_; }

  // Receives into the place of the payload, and behind it into a buffer of `pool`, of which the
  // owner holds `held` other bytes. `header_only`: of what comes next, no more than a header.
  Room room(engine::BufferPool& pool, std::size_t held, bool header_only) noexcept;
  // `count` bytes were received into the latest room().
  void received(std::size_t count) noexcept;
  // Bytes that were received elsewhere; at most as many as the least buffer has. False: there is no
  // buffer for them.
  bool append(engine::BufferPool& pool, std::size_t held,
              std::span<const std::byte> bytes) noexcept;
  // Gives the buffer back when hardly anything is in it.
  void release_buffer_if_possible() noexcept { received_.release_if_possible(); }
  // Received, and not consumed.
  std::span<const std::byte> unread() const noexcept { return received_.unconsumed(); }
  // Nothing of what was received is read any more.
  void drop_unread() noexcept { received_.consume(received_.unconsumed().size()); }

  // In phase header.
  Front look() noexcept;
  const proto::RequestHeader& header() const noexcept { return header_; }
  const proto::Verdict& verdict() const noexcept { return verdict_; }
  // Consumes the header that look() has found; what follows it is the next phase.
  void begin() noexcept;

  // In phase payload. Bytes that have no place yet.
  std::uint64_t unplaced() const noexcept { return left_; }
  bool has_place() const noexcept { return !place_.empty(); }
  std::size_t place_size() const noexcept { return place_.size(); }
  // The next place.size() of them belong there; not more than unplaced(), and one place at a time.
  void place(std::span<std::byte> place) noexcept;
  // Moves what was received behind a header to its place. True: the place is full, and no place any
  // more; with the last one the phase ends.
  bool fill() noexcept;

  // In phase block_status_payload, and ends it; nothing while bytes are missing. Valid until the
  // next call of another member.
  std::optional<std::span<const std::byte>> take_block_status_payload() noexcept;

  // In phase discarded_payload. True: that was all, and the phase has ended.
  bool discard() noexcept;
  std::uint64_t discard_left() const noexcept {
    return phase_ == Phase::discarded_payload ? left_ : 0;
  }

  // The stream has ended inside a payload: drops all that was received and not consumed.
  void interrupt() noexcept;

  bool invariants() const noexcept;

 private:
  void enter(Phase phase, std::uint64_t left) noexcept;

  const proto::RequestRules& rules_;
  ReceiveBuffer received_;
  Phase phase_ = Phase::header;
  // Of the payload of this phase, in bytes: neither placed, nor taken, nor skipped.
  std::uint64_t left_ = 0;
  std::span<std::byte> place_;  // empty: none
  std::size_t filled_ = 0;      // bytes of it
  proto::RequestHeader header_;
  proto::Verdict verdict_;
};

}  // namespace server
