#include "server/serving/request_framer.h"

#include <algorithm>
#include <cstring>

#include "engine/check.h"

namespace server {

void RequestFramer::enter(Phase phase, std::uint64_t left) noexcept {
  phase_ = phase;
  left_ = left;
  LOOPNBD_ASSERT(invariants());
}

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
  const auto header_size = proto::request_size(rules_.header_style);
  // As a rule, another header follows a long payload. Leave its payload for a direct read to where
  // it is written from, without a copy.
  if (has_place() && place_.size() >= ReceiveBuffer::long_payload_min)
    behind = behind.first(header_size);
  const auto unread = received_.unconsumed().size();
  const auto before_header = phase_ == Phase::header || (phase_ == Phase::payload && left_ == 0);
  if (header_only && before_header && unread < header_size)
    behind = behind.first(std::min(behind.size(), header_size - unread));
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

RequestFramer::Front RequestFramer::look() noexcept {
  LOOPNBD_ASSERT(phase_ == Phase::header);
  const auto size = proto::request_size(rules_.header_style);
  const auto bytes = received_.unconsumed();
  if (bytes.size() < size) return Front::incomplete;
  const auto header = proto::decode_request(bytes.first(size), rules_.header_style);
  if (!header) {
    verdict_.reason = "a request with a wrong magic number";
    return Front::broken;
  }
  header_ = *header;
  verdict_ = proto::validate(header_, rules_);
  return verdict_.disconnect ? Front::broken : Front::request;
}

void RequestFramer::begin() noexcept {
  received_.consume(proto::request_size(rules_.header_style));
  if (verdict_.payload_length == 0) return;
  auto phase = Phase::block_status_payload;
  if (verdict_.error != proto::Error::none)
    phase = Phase::discarded_payload;
  else if (header_.command == proto::Command::write)
    phase = Phase::payload;
  enter(phase, verdict_.payload_length);
}

void RequestFramer::place(std::span<std::byte> place) noexcept {
  LOOPNBD_ASSERT(phase_ == Phase::payload && !has_place());
  LOOPNBD_ASSERT(!place.empty() && place.size() <= left_);
  received_.expect_payload(place.size());
  place_ = place;
  filled_ = 0;
  left_ -= place.size();
}

bool RequestFramer::fill() noexcept {
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
  // A payload has something left, or the last place of it is not full.
  if (phase_ == Phase::header) return left_ == 0;
  return left_ > 0 || has_place();
}

}  // namespace server
