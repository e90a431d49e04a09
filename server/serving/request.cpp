#include "server/serving/request.h"

#include "engine/check.h"

namespace server {

std::string_view stage_of(RequestState state) noexcept {
  using enum RequestState;
  switch (state) {
    case on_device:
      return "device";
    case held:
      return "pause";
    case replying:
      return "send";
    case receiving:
    case waiting:
      return "queue";
  }
  return {};
}

bool Request::invariants() const noexcept {
  using enum RequestState;
  const auto under_way = state == on_device || state == held;
  if (under_way != (pieces_in_flight > 0)) return false;
  if ((state == waiting || state == receiving) && all_submitted) return false;
  return in_order || (first_piece == nullptr && !reply_begun);
}

RequestPool::RequestPool(std::size_t count_max, bool resident) : free_(count_max) {
  for (auto made = std::size_t{0}; resident && made < count_max; made += block_count) make_block();
}

void RequestPool::make_block() {
  auto& block = *blocks_.emplace_back(std::make_unique<std::array<Slot, block_count>>());
  for (auto& slot : block) {
    slot.next = first_free_;
    first_free_ = &slot;
  }
}

bool RequestPool::invariants() const noexcept {
  auto taken = std::size_t{0};
  auto made = std::size_t{0};
  for (const auto& block : blocks_) {
    for (const auto& slot : *block) {
      ++made;
      if (slot.request == nullptr) {
        if (slot.data || slot.own_request.connection != nullptr) return false;
        continue;
      }
      ++taken;
      // The request of a piece is there, and has its own piece in its slot.
      if (slot.request->connection == nullptr || slot.request->own->request != slot.request)
        return false;
    }
  }
  auto listed = std::size_t{0};
  for (const auto* piece = first_free_; piece != nullptr && listed <= made; piece = piece->next)
    ++listed;
  return taken == taken_ && listed == made - taken;
}

}  // namespace server
