#include "server/serving/reply_queue.h"

#include <catch2/catch.hpp>
#include <memory>
#include <vector>

#include "test/support/test_client.h"

using server::GatherBuffer;
using server::Piece;
using server::ReplyQueue;
using test::Bytes;
using test::pattern;

namespace {

// Pieces whose replies are head, body and tail of given sizes, and all their bytes in order.
class Replies {
 public:
  void add(std::size_t head, std::size_t body, std::size_t tail) {
    auto& piece = *pieces_.emplace_back(std::make_unique<Piece>());
    const auto bytes = pattern(head + body + tail, static_cast<unsigned>(pieces_.size()));
    std::copy_n(bytes.begin(), head, piece.head.begin());
    auto& stored = *bodies_.emplace_back(
        std::make_unique<Bytes>(bytes.begin() + static_cast<std::ptrdiff_t>(head),
                                bytes.end() - static_cast<std::ptrdiff_t>(tail)));
    std::copy_n(bytes.end() - static_cast<std::ptrdiff_t>(tail), tail, piece.tail.begin());
    piece.head_size = static_cast<std::uint8_t>(head);
    piece.body = stored;
    piece.tail_size = static_cast<std::uint8_t>(tail);
    expected.insert(expected.end(), bytes.begin(), bytes.end());
    queue.push(piece);
  }

  // Sends everything, at most `most` bytes at a time.
  Bytes send_all(std::size_t most) {
    auto sent = Bytes{};
    auto buffer = std::make_unique<GatherBuffer>();
    while (!queue.empty()) {
      auto room = most;
      auto count = std::size_t{0};
      for (const auto& vector : queue.gather(*buffer)) {
        const auto length = std::min(room, vector.iov_len);
        const auto* const begin = static_cast<const std::byte*>(vector.iov_base);
        sent.insert(sent.end(), begin, begin + length);
        count += length;
        room -= length;
      }
      queue.consume(count, [&](Piece&) { ++completed; });
    }
    return sent;
  }

  ReplyQueue queue;
  Bytes expected;
  std::size_t completed = 0;

 private:
  std::vector<std::unique_ptr<Piece>> pieces_;
  std::vector<std::unique_ptr<Bytes>> bodies_;
};

}  // namespace

TEST_CASE("replies leave complete and in order however little is sent at a time") {
  for (const auto most : {1U, 2U, 15U, 16U, 17U, 100U, 5000U, 1000000U}) {
    CAPTURE(most);
    auto replies = Replies();
    for (auto index = 0U; index < 8; ++index) {
      replies.add(16, 0, 0);
      replies.add(84, 700, 44);
      replies.add(44, 0, 0);
      replies.add(20, 1, 0);
    }
    CHECK(replies.send_all(most) == replies.expected);
    CHECK(replies.completed == 32);
  }
}

TEST_CASE("acknowledgements side by side leave as one buffer") {
  auto replies = Replies();
  for (auto index = 0; index < 128; ++index) replies.add(16, 0, 0);
  auto buffer = std::make_unique<GatherBuffer>();
  CHECK(replies.queue.gather(*buffer).size() == 1);
}

TEST_CASE("more replies than fit one system call are sent in several") {
  auto replies = Replies();
  for (auto index = 0; index < 1000; ++index) replies.add(40, 10, 0);
  CHECK(replies.send_all(1U << 20) == replies.expected);
}

TEST_CASE("a queue appended to another follows it") {
  auto first = Replies();
  auto second = Replies();
  first.add(16, 5, 0);
  second.add(16, 6, 0);
  first.queue.append(second.queue);
  CHECK(second.queue.empty());
  first.expected.insert(first.expected.end(), second.expected.begin(), second.expected.end());
  CHECK(first.send_all(10) == first.expected);
}
