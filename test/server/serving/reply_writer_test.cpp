#include "server/serving/reply_writer.h"

#include <algorithm>
#include <array>
#include <catch2/catch.hpp>
#include <cerrno>
#include <span>
#include <utility>
#include <vector>

#include "server/serving/block_status_buffer.h"
#include "test/server/serving/test_host.h"
#include "test/support/test_client.h"

using proto::Command;
using proto::HeaderStyle;
using server::Piece;
using server::Request;
using test::Bytes;
using test::pattern;

namespace {

constexpr auto piece_size = std::size_t{4096};

// Requests as a connection has them, with pieces that complete when the test says so.
struct Replies {
  explicit Replies(HeaderStyle style,
                   std::span<const server::StatusContext> contexts = server::status_contexts())
      : writer(style, slots, contexts) {}
  ~Replies() {
    writer.drop_ready();
    writer.drop_listed();
    CHECK(slots.empty());
    CHECK(host.requests().invariants());
  }

  Request& request(Command command, std::uint64_t cookie, std::size_t pieces = 1) {
    auto& made = *slots.take_request(
        {.command = command, .cookie = cookie, .offset = 0, .length = pieces * piece_size});
    for (auto index = std::size_t{0}; index < pieces; ++index) {
      auto& piece = pieces == 1 ? *made.own : *slots.take_piece(made);
      piece.offset = index * piece_size;
      piece.length = piece_size;
      if (command == Command::read) fill(piece, static_cast<unsigned>(cookie + index));
      if (pieces > 1 && command == Command::read) writer.list_in_order(piece);
      made.all_submitted = index + 1 == pieces;
      made.piece_submitted({}, false);
      in_flight.push_back(&piece);
    }
    return made;
  }
  // The operation that was submitted as number `index`, from zero.
  bool complete(std::size_t index, int error = 0) {
    auto& piece = *in_flight.at(index);
    piece.request->piece_completed({});
    if (error != 0) server::ReplyWriter::fail(*piece.request, error);
    return writer.complete(piece, error == 0 ? static_cast<std::int64_t>(piece_size) : -error);
  }
  // Sends everything, and returns it.
  Bytes send() {
    const auto bytes = writer.unsent();
    auto sent = Bytes{};
    while (!writer.empty()) {
      auto count = std::size_t{0};
      for (const auto& vector : writer.gather(host.gather_buffer())) {
        const auto* const begin = static_cast<const std::byte*>(vector.iov_base);
        sent.insert(sent.end(), begin, begin + vector.iov_len);
        count += vector.iov_len;
      }
      writer.consume(count, [this](const Request& it) { answered.push_back(it.header.cookie); });
    }
    CHECK(sent == Bytes(bytes.begin(), bytes.begin() + static_cast<std::ptrdiff_t>(sent.size())));
    CHECK(writer.invariants());
    return sent;
  }

  test::TestHost host;
  server::ExportMetrics metrics;
  server::RequestSlots slots{host.no_connection(), host, metrics};
  server::ReplyWriter writer;
  std::vector<Piece*> in_flight;
  std::vector<std::uint64_t> answered;

 private:
  void fill(Piece& piece, unsigned seed) {
    auto buffer = slots.take_buffer(piece_size, piece_size);
    REQUIRE(buffer);
    piece.buffer = buffer.memory();
    const auto bytes = pattern(piece_size, seed);
    std::copy(bytes.begin(), bytes.end(), piece.buffer);
    slots.attach(piece, std::move(buffer));
  }
};

constexpr auto header_size = proto::simple_reply_size;

}  // namespace

TEST_CASE("replies leave in the order in which they are ready") {
  auto replies = Replies(GENERATE(HeaderStyle::simple, HeaderStyle::structured));
  replies.request(Command::write, 1);
  replies.request(Command::write, 2);
  replies.request(Command::flush, 3);
  CHECK(replies.complete(2));
  CHECK(replies.complete(0));
  replies.send();
  CHECK(replies.complete(1));
  replies.send();
  CHECK(replies.answered == std::vector<std::uint64_t>{3, 1, 2});
}

TEST_CASE("the pieces of a simple reply leave in order, and others after it") {
  auto replies = Replies(HeaderStyle::simple);
  replies.request(Command::read, 1, 3);
  replies.request(Command::write, 9);
  CHECK(replies.complete(2));
  CHECK(replies.writer.empty());
  CHECK(replies.complete(0));
  CHECK(replies.send().size() == header_size + piece_size);
  CHECK(replies.complete(3));  // in the middle of the READ's reply
  CHECK(replies.writer.empty());
  CHECK(replies.complete(1));
  const auto rest = replies.send();
  CHECK(rest.size() == 2 * piece_size + header_size);
  CHECK(std::equal(rest.begin(), rest.begin() + piece_size, pattern(piece_size, 2).begin()));
  CHECK(replies.answered == std::vector<std::uint64_t>{1, 9});
}

TEST_CASE("a READ in pieces that fails before its reply has begun gets an error") {
  auto replies = Replies(HeaderStyle::simple);
  replies.request(Command::read, 1, 2);
  CHECK(replies.complete(1, EIO));
  CHECK(replies.complete(0));
  CHECK(replies.send().size() == header_size);
  CHECK(replies.answered == std::vector<std::uint64_t>{1});
}

TEST_CASE("a READ that fails behind its reply header ends the stream") {
  auto replies = Replies(HeaderStyle::simple);
  replies.request(Command::read, 1, 2);
  CHECK(replies.complete(0));
  CHECK_FALSE(replies.complete(1, EIO));
}

TEST_CASE("two READs in pieces follow each other") {
  auto replies = Replies(HeaderStyle::simple);
  replies.request(Command::read, 1, 2);
  replies.request(Command::read, 2, 2);
  for (const auto index : {3U, 2U, 1U}) CHECK(replies.complete(index));
  CHECK(replies.writer.empty());
  CHECK(replies.complete(0));
  CHECK(replies.send().size() == 2 * (header_size + 2 * piece_size));
  CHECK(replies.answered == std::vector<std::uint64_t>{1, 2});
}

TEST_CASE("what is dropped is given back but for what is in flight") {
  auto replies = Replies(HeaderStyle::simple);
  auto& request = replies.request(Command::read, 1, 3);
  CHECK(replies.complete(0));
  CHECK(replies.complete(2));
  replies.writer.drop_ready();
  replies.writer.drop_listed();
  CHECK_FALSE(replies.slots.empty());
  request.piece_completed({});
  replies.slots.give_back(*replies.in_flight[1]);
  replies.slots.give_back_if_over(request);
  CHECK(replies.slots.empty());
}

TEST_CASE("the text of an error goes along in chunks") {
  auto replies = Replies(HeaderStyle::structured);
  replies.request(Command::read, 1);
  CHECK(replies.complete(0, ENOSPC));
  const auto sent = replies.send();
  const auto text = std::string("no space left where the image is stored");
  CHECK(std::string(reinterpret_cast<const char*>(sent.data()), sent.size()).find(text) !=
        std::string::npos);
}

TEST_CASE("a BLOCK_STATUS has one chunk for each context that it asks for") {
  const auto style = GENERATE(HeaderStyle::structured, HeaderStyle::extended);
  // The second context exists in this test only: it does not tell holes from data.
  const auto contexts = std::vector<server::StatusContext>{
      server::status_contexts().front(),
      {{.id = 7, .name = "test:zero"},
       [](const engine::Extent& extent) { return std::uint32_t{extent.zero}; }},
      {{.id = 9, .name = "test:none"}, [](const engine::Extent&) { return std::uint32_t{0}; }}};
  auto replies = Replies(style, contexts);
  auto& request = replies.request(Command::block_status, 5, 1);
  request.contexts.add(7);
  request.contexts.add(proto::allocation_context_id);
  auto memory = replies.slots.take_buffer(piece_size, piece_size);
  REQUIRE(memory);
  const auto buffer = server::BlockStatusBuffer({memory.memory(), memory.size()}, 2);
  buffer.extents[0] = {.length = 1024, .hole = true, .zero = true};
  buffer.extents[1] = {.length = 1024, .hole = false, .zero = true};
  buffer.extents[2] = {.length = 2048};
  replies.slots.attach(*request.own, std::move(memory));
  request.piece_completed({});
  CHECK(replies.writer.complete(*request.own, 3));
  const auto sent = replies.send();
  auto expected = Bytes(2 * proto::reply_header_size_max + 5 * proto::encoded_extent_size(style));
  auto rest = std::span(expected);
  const auto add = [&](std::uint32_t id, std::vector<proto::StatusExtent> extents, bool done) {
    rest = rest.subspan(proto::encode_block_status_chunk(
        rest, {.style = style, .cookie = 5, .request_offset = 0}, id, extents.size(), done));
    const auto size = extents.size() * proto::encoded_extent_size(style);
    proto::encode_extents(rest.first(size), style, extents);
    rest = rest.subspan(size);
  };
  add(proto::allocation_context_id, {{1024, 3}, {1024, 2}, {2048, 0}}, false);
  add(7, {{2048, 1}, {2048, 0}}, true);
  expected.resize(expected.size() - rest.size());
  CHECK(sent == expected);
  CHECK(replies.answered == std::vector<std::uint64_t>{5});
}

TEST_CASE("the chunks of all contexts fit the least buffer") {
  const auto contexts = GENERATE(std::size_t{1}, proto::meta_contexts_max);
  auto memory = std::array<std::byte, engine::buffer_size_min>();
  const auto buffer = server::BlockStatusBuffer(memory, contexts);
  CHECK(buffer.count >= 32);
  const auto chunk =
      proto::reply_header_size_max + buffer.count * server::BlockStatusBuffer::encoded_size_max;
  CHECK(buffer.encoded.size() >= contexts * chunk);
}
