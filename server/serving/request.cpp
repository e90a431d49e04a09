#include "server/serving/request.h"

namespace server {

RequestPool::RequestPool(std::size_t count_max, bool resident) : free_(count_max) {
  for (auto made = std::size_t{0}; resident && made < count_max; made += block_count) make_block();
}

void RequestPool::make_block() {
  auto& block = *blocks_.emplace_back(std::make_unique<std::array<Request, block_count>>());
  for (auto& request : block) {
    request.next = first_free_;
    first_free_ = &request;
  }
}

Request* RequestPool::take(Connection& connection, std::size_t held) {
  if (held >= free_) return nullptr;
  if (first_free_ == nullptr) make_block();
  auto& request = *first_free_;
  first_free_ = request.next;
  --free_;
  ++taken_;
  request.connection = &connection;
  request.next = nullptr;
  request.whole = &request;
  request.fua = request.no_hole = request.fast_zero = request.one_extent = false;
  request.pieces_in_flight = 0;
  request.all_submitted = false;
  request.error = proto::Error::none;
  request.error_text = {};
  request.in_order = false;
  request.first_piece = request.last_piece = request.next_in_order = nullptr;
  request.reply_begun = false;
  request.reported_slow = false;
  request.completed = false;
  request.head_size = request.tail_size = 0;
  request.body = {};
  return &request;
}

void RequestPool::give_back(Request& request) noexcept {
  request.data.reset();
  request.connection = nullptr;
  request.next = first_free_;
  first_free_ = &request;
  ++free_;
  --taken_;
}

}  // namespace server
