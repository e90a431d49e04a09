#include "server/serving/request_framer.h"

#include <algorithm>
#include <cstring>

#include "engine/check.h"

namespace server {

RequestFramer::Room RequestFramer::room(engine::BufferPool& pool, std::size_t held,
                                        bool header_only) noexcept {
  auto room = Room{};
  if (has_place()) {
    room.size = place_.size() - filled_;
    room.vectors[room.count++] = {.iov_base = place_.data() + filled_, .iov_len = room.size};
    // More of this payload has a better place than the buffer.
    if (left_ > 0) return room;
  }
  if (!received_.make_room(pool, held)) return room;
  auto behind = received_.room();
  // As a rule, another header follows a long payload. Leave its payload for a direct read to where
  // it is written from, without a copy.
  if (has_place() && place_.size() >= ReceiveBuffer::long_payload_min)
    behind = behind.first(header_size_);
  const auto unread = received_.unconsumed().size();
  const auto before_header = phase_ == Phase::header || (phase_ == Phase::payload && left_ == 0);
  if (header_only && before_header && unread < header_size_)
    behind = behind.first(std::min(behind.size(), header_size_ - unread));
  room.vectors[room.count++] = {.iov_base = behind.data(), .iov_len = behind.size()};
  room.size += behind.size();
  return room;
}

void RequestFramer::received(std::size_t count) noexcept {
  const auto in_place = std::min(count, place_.size() - filled_);
  filled_ += in_place;
  if (count > in_place) received_.received(count - in_place);
  LOOPNBD_ASSERT(invariants());
}

bool RequestFramer::append(engine::BufferPool& pool, std::size_t held,
                           std::span<const std::byte> bytes) noexcept {
  if (!received_.make_room(pool, held)) return false;
  const auto room = received_.room();
  std::memcpy(room.data(), bytes.data(), std::min(room.size(), bytes.size()));
  received_.received(bytes.size());
  return true;
}

std::optional<std::span<const std::byte>> RequestFramer::take_block_status_payload() noexcept {
  LOOPNBD_ASSERT(phase_ == Phase::block_status_payload);
  const auto bytes = received_.unconsumed();
  const auto size = static_cast<std::size_t>(left_);  // validate() has bounded it
  if (bytes.size() < size) return std::nullopt;
  received_.consume(size);
  enter(Phase::header, 0);
  return bytes.first(size);
}

bool RequestFramer::discard() noexcept {
  LOOPNBD_ASSERT(phase_ == Phase::discarded_payload);
  const auto count = std::min<std::uint64_t>(received_.unconsumed().size(), left_);
  received_.consume(static_cast<std::size_t>(count));
  left_ -= count;
  if (left_ > 0) return false;
  enter(Phase::header, 0);
  return true;
}

void RequestFramer::interrupt() noexcept {
  drop_unread();
  place_ = {};
  filled_ = 0;
  enter(Phase::header, 0);
}

bool RequestFramer::invariants() const noexcept {
  if (!received_.invariants() || filled_ > place_.size()) return false;
  if (has_place() && phase_ != Phase::payload) return false;
  // Nothing is received behind a place that has room.
  if (filled_ < place_.size() && !received_.unconsumed().empty()) return false;
  // A payload has something left, or the last place of it is not full.
  if (phase_ == Phase::header) return left_ == 0;
  return left_ > 0 || has_place();
}

}  // namespace server
