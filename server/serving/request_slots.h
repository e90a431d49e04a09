// The slots and buffers that one connection holds of its worker's pools, from a request's header to
// the last byte of its reply. Used on the worker's thread.
#pragma once

#include <algorithm>
#include <bit>
#include <cstddef>
#include <cstdint>
#include <utility>

#include "engine/buffer_pool.h"
#include "engine/check.h"
#include "proto/request.h"
#include "server/base/metrics.h"
#include "server/serving/connection_host.h"
#include "server/serving/request.h"

namespace server {

// The thing that parsing lacks to go on.
enum class Need : std::uint8_t {
  nothing,    // it can go on
  bytes,      // from the client
  replies,    // of its own must be sent: they hold as many slots as it may have
  resources,  // slots or buffers of the worker
  admission,  // its device goes on, or its limits allow the next request
};

class RequestSlots {
 public:
  // `metrics`: of the export. All outlive this object.
  RequestSlots(Connection& connection, ConnectionHost& host, ExportMetrics& metrics) noexcept
      : connection_(connection), host_(host), metrics_(metrics) {}

  // nullptr, or an empty buffer: need() says what is missing.
  Request* take_request(const proto::RequestHeader& header) noexcept;
  Piece* take_piece(Request& request) noexcept;
  engine::BufferPool::Buffer take_buffer(std::size_t wanted, std::size_t least) noexcept;
  Need need() const noexcept { return need_; }
  // The client does not read as fast as it is answered.
  void set_congested(bool congested) noexcept { congested_ = congested; }
  // Whether another piece may be read for it. Clients that do not read, and all when some wait for
  // memory, get a small part of what is free, so that others find some. False: need() says what has
  // to come first.
  bool may_read_ahead() noexcept;
  // For one piece, in bytes; of a payload, which comes at the client's pace, or of what is read.
  std::size_t piece_size_max(bool payload) const noexcept;
  // The buffer is the piece's from now on.
  void attach(Piece& piece, engine::BufferPool::Buffer&& buffer) noexcept;
  std::size_t buffers_free() const noexcept { return host_.buffers().free(); }  // bytes

  // With its buffer; the own piece of a request comes last and takes the request along.
  void give_back(Piece& piece) noexcept;
  void give_back_if_over(Request& request) noexcept {
    if (request.is_over()) give_back(*request.own);
  }

  bool empty() const noexcept { return slots_held_ == 0; }
  std::size_t bytes_held() const noexcept { return bytes_held_; }
  std::uint64_t requests_in_flight() const noexcept { return requests_in_flight_; }
  bool invariants() const noexcept;

 private:
  // Parts of the memory that is free.
  static constexpr std::size_t scarce_part = 64;
  static constexpr std::size_t congested_part = 8;
  static constexpr std::size_t payload_part = 16;

  bool may_take() noexcept;
  template <typename Taken>
  Taken* note(Taken* taken) noexcept;

  Connection& connection_;
  ConnectionHost& host_;
  ExportMetrics& metrics_;
  Need need_ = Need::nothing;
  bool congested_ = false;
  std::size_t slots_held_ = 0;
  std::size_t bytes_held_ = 0;  // of the buffers of the slots
  std::uint64_t requests_in_flight_ = 0;
};

// Inline: on the path of every request.

inline bool RequestSlots::may_take() noexcept {
  if (slots_held_ < host_.bounds().requests_max_per_connection) return true;
  need_ = Need::replies;
  return false;
}

inline bool RequestSlots::may_read_ahead() noexcept {
  if (!congested_ && !host_.scarce()) return true;
  const auto part = host_.scarce() ? scarce_part : congested_part;
  if (bytes_held_ <= buffers_free() / part) return true;
  need_ = Need::replies;
  return false;
}

inline std::size_t RequestSlots::piece_size_max(bool payload) const noexcept {
  if (!payload && !host_.scarce()) return engine::buffer_size_max;
  const auto part = host_.scarce() ? scarce_part : payload_part;
  const auto size = std::bit_floor(buffers_free() / part);
  return std::clamp(size, engine::buffer_size_min, engine::buffer_size_max);
}

template <typename Taken>
Taken* RequestSlots::note(Taken* taken) noexcept {
  if (taken != nullptr) {
    ++slots_held_;
  } else {
    need_ = Need::resources;
  }
  return taken;
}

inline Request* RequestSlots::take_request(const proto::RequestHeader& header) noexcept {
  if (!may_take()) return nullptr;
  auto* const request = note(host_.requests().take_request(connection_, slots_held_));
  if (request == nullptr) return nullptr;
  request->header = header;
  ++requests_in_flight_;
  metrics_.of(header.command).begun.add(1);
  return request;
}

inline Piece* RequestSlots::take_piece(Request& request) noexcept {
  if (!may_take()) return nullptr;
  return note(host_.requests().take_piece(request, slots_held_));
}

inline engine::BufferPool::Buffer RequestSlots::take_buffer(std::size_t wanted,
                                                            std::size_t least) noexcept {
  auto buffer = host_.buffers().take(wanted, least, bytes_held_);
  if (!buffer) need_ = Need::resources;
  return buffer;
}

inline void RequestSlots::attach(Piece& piece, engine::BufferPool::Buffer&& buffer) noexcept {
  LOOPNBD_ASSERT(!piece.data);
  bytes_held_ += buffer.size();
  piece.data = std::move(buffer);
}

inline void RequestSlots::give_back(Piece& piece) noexcept {
  if (&piece == piece.request->own) {
    --requests_in_flight_;
    metrics_.of(piece.request->header.command).ended.add(1);
  }
  --slots_held_;
  bytes_held_ -= piece.data.size();
  host_.requests().give_back(piece);
  LOOPNBD_ASSERT(invariants());
}

}  // namespace server
