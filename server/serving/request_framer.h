// Finds the requests in what a client sends: headers, and the payloads that follow some of them.
// Knows no socket, no worker and no device: it says where the next bytes belong, is told how many
// came, and describes the request at the front. Its owner gives payloads a place and asks for the
// next request when the one before needs nothing more from the stream. Used by one thread.
//
// A payload must never be taken for requests: it is file contents, which would command the server.
// Spec: "Transmission phase".
#pragma once

#include <sys/uio.h>

#include <algorithm>
#include <array>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <optional>
#include <span>
#include <vector>

#include "engine/buffer_pool.h"
#include "engine/check.h"
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
    request,  // header() is its header; begin() consumes it
    broken,   // no request: the magic number is wrong
  };
  // Where the next bytes are to be received. Empty: there is no buffer for them.
  struct Room {
    std::array<iovec, 2> vectors;
    std::size_t count = 0;
    std::size_t size = 0;  // bytes
    std::span<const iovec> parts() const noexcept { return std::span(vectors).first(count); }
  };

  explicit RequestFramer(proto::HeaderStyle style) noexcept
      : style_(style), header_size_(proto::request_size(style)) {}

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
  std::size_t held() const noexcept { return received_.held(); }  // bytes of the pool
  // Received, and not consumed.
  std::span<const std::byte> unread() const noexcept { return received_.unconsumed(); }
  // Nothing of what was received is read any more.
  void drop_unread() noexcept { received_.consume(received_.unconsumed().size()); }

  // In phase header.
  Front look() noexcept;
  const proto::RequestHeader& header() const noexcept { return header_; }
  // Consumes the header that look() has found; its payload, if it has one, is the next phase.
  // `verdict`: of that header, and not to disconnect.
  void begin(const proto::Verdict& verdict) noexcept;

  // In phase payload. Bytes that have no place yet.
  std::uint64_t unplaced() const noexcept { return left_; }
  bool has_place() const noexcept { return !place_.empty(); }
  std::size_t place_size() const noexcept { return place_.size(); }
  // The next place.size() of them belong there; not more than unplaced(), and one place at a time.
  // True: all of them had been received, so that the place is full already.
  bool place(std::span<std::byte> place) noexcept;
  // After received(). True: the place is full, and no place any more; with the last one the phase
  // ends.
  bool fill() noexcept;

  // In phase block_status_payload, and ends it; nothing while bytes are missing. Valid until the
  // next call of another member.
  std::optional<std::span<const std::byte>> take_block_status_payload() noexcept;

  // In phase discarded_payload. True: that was all, and the phase has ended.
  bool discard() noexcept;
  std::uint64_t discard_left() const noexcept {
    return phase_ == Phase::discarded_payload ? left_ : 0;
  }

  // Before anything was received: the stream goes on so many bytes in front of the end of the
  // payload of a refused request.
  void resume(std::uint64_t discard_left) noexcept {
    if (discard_left > 0) enter(Phase::discarded_payload, discard_left);
  }

  // The stream has ended inside a payload: drops all that was received and not consumed.
  void interrupt() noexcept;

  bool invariants() const noexcept;

 private:
  void enter(Phase phase, std::uint64_t left) noexcept;

  const proto::HeaderStyle style_;
  const std::size_t header_size_;  // bytes
  ReceiveBuffer received_;
  Phase phase_ = Phase::header;
  // Of the payload of this phase, in bytes: neither placed, nor taken, nor skipped.
  std::uint64_t left_ = 0;
  std::span<std::byte> place_;  // empty: none
  std::size_t filled_ = 0;      // bytes of it
  proto::RequestHeader header_;
};

// Inline: on the path of every request.

inline void RequestFramer::enter(Phase phase, std::uint64_t left) noexcept {
  phase_ = phase;
  left_ = left;
  LOOPNBD_ASSERT(invariants());
}

inline RequestFramer::Front RequestFramer::look() noexcept {
  LOOPNBD_ASSERT(phase_ == Phase::header);
  const auto bytes = received_.unconsumed();
  if (bytes.size() < header_size_) return Front::incomplete;
  const auto header = proto::decode_request(bytes.first(header_size_), style_);
  if (!header) return Front::broken;
  header_ = *header;
  return Front::request;
}

inline void RequestFramer::begin(const proto::Verdict& verdict) noexcept {
  received_.consume(header_size_);
  if (verdict.payload_length == 0) return;
  auto phase = Phase::block_status_payload;
  if (verdict.error != proto::Error::none)
    phase = Phase::discarded_payload;
  else if (header_.command == proto::Command::write)
    phase = Phase::payload;
  enter(phase, verdict.payload_length);
}

inline bool RequestFramer::fill() noexcept {
  const auto bytes = received_.unconsumed();
  const auto count = std::min(bytes.size(), place_.size() - filled_);
  if (count > 0) std::memcpy(place_.data() + filled_, bytes.data(), count);
  received_.consume(count);
  filled_ += count;
  if (filled_ < place_.size()) return false;
  place_ = {};
  filled_ = 0;
  if (left_ == 0) enter(Phase::header, 0);
  return true;
}

inline bool RequestFramer::place(std::span<std::byte> place) noexcept {
  LOOPNBD_ASSERT(phase_ == Phase::payload && !has_place());
  LOOPNBD_ASSERT(!place.empty() && place.size() <= left_);
  received_.expect_payload(place.size());
  left_ -= place.size();
  const auto bytes = received_.unconsumed();
  if (bytes.size() < place.size()) {
    place_ = place;
    filled_ = 0;
    return fill();
  }
  std::memcpy(place.data(), bytes.data(), place.size());
  received_.consume(place.size());
  if (left_ == 0) enter(Phase::header, 0);
  return true;
}

}  // namespace server
