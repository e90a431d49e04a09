// A request in flight: a slot that does not move, since the kernel holds a pointer to the operation
// inside it. Slots belong to their worker's RequestPool; a connection holds them from the header's
// arrival until the reply has been sent. A request that does not fit one buffer is done in pieces:
// slots of their own that point to the whole.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>
#include <vector>

#include "engine/buffer_pool.h"
#include "engine/io.h"
#include "proto/reply.h"
#include "proto/request.h"
#include "server/base/metrics.h"

namespace server {

class Connection;

class Request final : public engine::Io {
 public:
  void complete(std::int64_t result) noexcept override;  // in connection.cpp: hands over to it

  // Outlives its requests: it drains before it dies. nullptr: the slot is free.
  Connection* connection = nullptr;
  Request* next = nullptr;   // in the list that holds the slot: free, pieces or replies
  Request* whole = nullptr;  // itself, unless this is a piece

  proto::RequestHeader header;      // as the client sent it; of a piece, unused
  engine::BufferPool::Buffer data;  // of READ, WRITE and BLOCK_STATUS

  // Of a whole.
  std::uint32_t pieces_in_flight = 0;  // submitted and not completed
  bool all_submitted = false;
  proto::Error error = proto::Error::none;  // the first one
  std::string_view error_text;              // static storage
  bool in_order = false;                    // its pieces must be sent in order and are listed here:
  Request* first_piece = nullptr;
  Request* last_piece = nullptr;
  Request* next_in_order = nullptr;  // the next whole whose pieces must be sent in order
  bool reply_begun = false;
  bool reported_slow = false;  // while it was under way
  // When its header arrived, and when its last piece so far was submitted and completed.
  Clock::time_point received;
  Clock::time_point submitted;
  Clock::time_point completed_at;

  // Of a piece that must be sent in order.
  bool completed = false;

  // The reply: head, body, tail. The body is in `data` or in static storage.
  std::array<std::byte, 2 * proto::reply_header_size_max> head;
  std::array<std::byte, proto::reply_header_size_max> tail;
  std::uint8_t head_size = 0;
  std::uint8_t tail_size = 0;
  std::span<const std::byte> body;

  std::size_t reply_size() const noexcept { return head_size + body.size() + tail_size; }
};

// The slots of one worker. Grows in blocks up to a bound and never shrinks. Used by one thread.
class RequestPool {
 public:
  // `resident`: all of them are made now.
  explicit RequestPool(std::size_t count_max, bool resident = false);

  // A slot, reset; nullptr when there is none for a connection that holds `held` of them: as with
  // buffers, who holds many must leave as many to others.
  Request* take(Connection& connection, std::size_t held);
  // Its data buffer is given back as well.
  void give_back(Request& request) noexcept;

  std::size_t taken() const noexcept { return taken_; }
  // Every slot that is taken, in no particular order.
  template <typename Visit>
  void for_each_taken(const Visit& visit) {
    auto left = taken_;
    for (auto block = blocks_.begin(); left > 0 && block != blocks_.end(); ++block)
      for (auto& request : **block) {
        if (request.connection == nullptr) continue;
        --left;
        visit(request);
      }
  }

 private:
  static constexpr std::size_t block_count = 64;

  void make_block();

  std::size_t free_;  // slots not taken, made or not
  std::size_t taken_ = 0;
  Request* first_free_ = nullptr;
  std::vector<std::unique_ptr<std::array<Request, block_count>>> blocks_;
};

}  // namespace server
