#include "server/serving/request_slots.h"

#include <utility>

#include "engine/check.h"

namespace server {

bool RequestSlots::may_take() noexcept {
  if (slots_held_ < host_.bounds().requests_max_per_connection) return true;
  need_ = Need::replies;
  return false;
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

Request* RequestSlots::take_request(const proto::RequestHeader& header) noexcept {
  if (!may_take()) return nullptr;
  auto* const request = note(host_.requests().take_request(connection_, slots_held_));
  if (request == nullptr) return nullptr;
  request->header = header;
  ++requests_in_flight_;
  metrics_.of(header.command).begun.add(1);
  return request;
}

Piece* RequestSlots::take_piece(Request& request) noexcept {
  if (!may_take()) return nullptr;
  return note(host_.requests().take_piece(request, slots_held_));
}

engine::BufferPool::Buffer RequestSlots::take_buffer(std::size_t wanted,
                                                     std::size_t least) noexcept {
  auto buffer = host_.buffers().take(wanted, least, bytes_held_);
  if (!buffer) need_ = Need::resources;
  return buffer;
}

void RequestSlots::attach(Piece& piece, engine::BufferPool::Buffer buffer) noexcept {
  LOOPNBD_ASSERT(!piece.data);
  bytes_held_ += buffer.size();
  piece.data = std::move(buffer);
}

void RequestSlots::give_back(Piece& piece) noexcept {
  if (&piece == piece.request->own) {
    --requests_in_flight_;
    metrics_.of(piece.request->header.command).ended.add(1);
  }
  --slots_held_;
  bytes_held_ -= piece.data.size();
  host_.requests().give_back(piece);
  LOOPNBD_ASSERT(invariants());
}

bool RequestSlots::invariants() const noexcept {
  if (slots_held_ == 0 && bytes_held_ > 0) return false;
  return requests_in_flight_ <= slots_held_ && slots_held_ <= host_.requests().taken() &&
         bytes_held_ <= host_.buffers().in_use();
}

}  // namespace server
