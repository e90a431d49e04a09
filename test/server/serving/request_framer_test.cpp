#include "server/serving/request_framer.h"

#include <algorithm>
#include <catch2/catch.hpp>
#include <cstring>
#include <optional>
#include <vector>

#include "test/support/test_client.h"

using proto::Command;
using server::RequestFramer;
using test::Bytes;
using test::Client;
using test::pattern;
using Front = RequestFramer::Front;
using Phase = RequestFramer::Phase;

namespace {

constexpr auto export_size = std::uint64_t{1} << 30;

Bytes joined(std::initializer_list<Bytes> parts) {
  auto all = Bytes{};
  for (const auto& part : parts) all.insert(all.end(), part.begin(), part.end());
  return all;
}

Bytes header(Command command, std::uint64_t cookie, std::uint64_t length, std::uint16_t flags = 0) {
  return Client::encode_request(test::Style::extended, command, cookie, 4096, length, flags);
}

// A framer under extended headers, fed with a stream `step` bytes at a time.
class Stream {
 public:
  explicit Stream(Bytes bytes, std::size_t step = 1U << 20)
      : bytes_(std::move(bytes)), step_(step) {
    rules_.export_size = export_size;
    rules_.transmission_flags = 0xffff & ~proto::transmission_flag::read_only;
    rules_.header_style = proto::HeaderStyle::extended;
    rules_.payload_length_max = 1U << 20;
    rules_.block_status_selected = true;
  }

  // Receives once; false: nothing is left.
  bool receive() {
    const auto room = framer.room(pool, 0, header_only);
    REQUIRE(room.count > 0);
    auto count = std::size_t{0};
    for (const auto& part : room.parts()) {
      const auto length = std::min({part.iov_len, step_ - count, bytes_.size() - given_});
      std::memcpy(part.iov_base, bytes_.data() + given_, length);
      given_ += length;
      count += length;
      if (length < part.iov_len) break;
    }
    framer.received(count);
    return count > 0;
  }
  Front next() {
    auto front = framer.look();
    while (front == Front::incomplete && receive()) front = framer.look();
    return front;
  }
  proto::Verdict verdict() const { return proto::validate(framer.header(), rules_); }
  void begin() { framer.begin(verdict()); }
  // The payload of a WRITE that has begun, in places of `place_size` bytes.
  std::optional<Bytes> payload(std::size_t place_size) {
    auto all = Bytes{};
    while (framer.phase() == Phase::payload) {
      auto place = Bytes(std::min<std::size_t>(place_size, framer.unplaced()));
      auto full = framer.place(place);
      for (; !full; full = framer.fill())
        if (!receive()) return std::nullopt;
      all.insert(all.end(), place.begin(), place.end());
    }
    return all;
  }

  engine::BufferPool pool{engine::buffer_size_max};
  bool header_only = false;

 private:
  proto::RequestRules rules_;
  Bytes bytes_;
  std::size_t step_;
  std::size_t given_ = 0;

 public:
  RequestFramer framer{proto::HeaderStyle::extended};
};

}  // namespace

TEST_CASE("requests and payloads come out however the stream is cut") {
  const auto step = GENERATE(1U, 7U, 31U, 32U, 33U, 4096U, 100'000U);
  const auto place_size = GENERATE(512U, 5000U, 100'000U);
  const auto short_payload = pattern(777, 1);
  const auto long_payload = pattern(50'000, 2);
  auto stream = Stream(
      joined({header(Command::read, 1, 512), header(Command::write, 2, 777), short_payload,
              header(Command::write, 3, 50'000), long_payload, header(Command::flush, 4, 0)}),
      step);
  REQUIRE(stream.next() == Front::request);
  CHECK(stream.framer.header().cookie == 1);
  stream.begin();
  CHECK(stream.framer.phase() == Phase::header);
  REQUIRE(stream.next() == Front::request);
  CHECK(stream.framer.header().cookie == 2);
  stream.begin();
  CHECK(stream.payload(place_size) == short_payload);
  REQUIRE(stream.next() == Front::request);
  stream.begin();
  CHECK(stream.payload(place_size) == long_payload);
  REQUIRE(stream.next() == Front::request);
  CHECK(stream.framer.header().cookie == 4);
  stream.begin();
  CHECK(stream.next() == Front::incomplete);
  CHECK(stream.framer.invariants());
}

TEST_CASE("a request is described again until it begins") {
  auto stream = Stream(joined({header(Command::read, 1, 512), header(Command::read, 2, 512)}));
  for (auto count = 0; count < 3; ++count) {
    REQUIRE(stream.next() == Front::request);
    CHECK(stream.framer.header().cookie == 1);
  }
  stream.begin();
  REQUIRE(stream.next() == Front::request);
  CHECK(stream.framer.header().cookie == 2);
}

TEST_CASE("a wrong magic number ends the framing") {
  auto stream = Stream(Bytes(32));
  CHECK(stream.next() == Front::broken);
  CHECK(stream.next() == Front::broken);
}

TEST_CASE("the payload of a refused request is skipped") {
  auto stream = Stream(joined({header(Command::write, 1, 777, 1U << 15), pattern(777, 1),
                               header(Command::read, 2, 512)}),
                       100);
  REQUIRE(stream.next() == Front::request);
  CHECK(stream.verdict().error == proto::Error::invalid);
  stream.begin();
  REQUIRE(stream.framer.phase() == Phase::discarded_payload);
  CHECK(stream.framer.discard_left() == 777);
  while (!stream.framer.discard()) REQUIRE(stream.receive());
  CHECK(stream.framer.discard_left() == 0);
  REQUIRE(stream.next() == Front::request);
  CHECK(stream.framer.header().cookie == 2);
}

TEST_CASE("the payload of a block status is taken when all of it is there") {
  const auto payload = pattern(12, 3);
  auto stream =
      Stream(joined({header(Command::block_status, 1, 12, proto::command_flag::payload_length),
                     payload, header(Command::read, 2, 512)}),
             10);
  REQUIRE(stream.next() == Front::request);
  stream.begin();
  REQUIRE(stream.framer.phase() == Phase::block_status_payload);
  auto taken = stream.framer.take_block_status_payload();
  while (!taken) {
    REQUIRE(stream.receive());
    taken = stream.framer.take_block_status_payload();
  }
  CHECK(Bytes(taken->begin(), taken->end()) == payload);
  REQUIRE(stream.next() == Front::request);
  CHECK(stream.framer.header().cookie == 2);
}

TEST_CASE("an interrupted payload is not taken for requests") {
  // The payload has no place yet, and looks like a request.
  auto stream = Stream(joined({header(Command::write, 1, 1000), header(Command::trim, 2, 512)}));
  REQUIRE(stream.next() == Front::request);
  stream.begin();
  stream.framer.interrupt();
  CHECK(stream.framer.phase() == Phase::header);
  CHECK(stream.next() == Front::incomplete);
}

TEST_CASE("in front of a header there is room for no more than it, if so wanted") {
  auto stream = Stream(joined({header(Command::read, 1, 512), header(Command::read, 2, 512)}));
  stream.header_only = true;
  auto room = stream.framer.room(stream.pool, 0, true);
  CHECK(room.size == 32);
  REQUIRE(stream.next() == Front::request);
  CHECK(stream.framer.unread().size() == 32);
}

TEST_CASE("a payload is received in place, and its last bytes with what follows") {
  auto stream = Stream(joined({header(Command::write, 1, 100'000), pattern(100'000, 1)}), 32);
  REQUIRE(stream.next() == Front::request);
  stream.begin();
  auto place = Bytes(60'000);
  CHECK_FALSE(stream.framer.place(place));
  auto room = stream.framer.room(stream.pool, 0, false);
  CHECK(room.count == 1);
  CHECK(room.vectors[0].iov_base == place.data());
  CHECK(room.size == 60'000);
  stream.framer.received(60'000);
  REQUIRE(stream.framer.fill());
  auto last = Bytes(40'000);
  CHECK_FALSE(stream.framer.place(last));
  room = stream.framer.room(stream.pool, 0, false);
  CHECK(room.count == 2);
  CHECK(room.size == 40'000 + 32);  // one more header
}

TEST_CASE("without a buffer there is no room but in a place") {
  auto pool = engine::BufferPool(engine::buffer_size_max);
  const auto all = pool.take(engine::buffer_size_max, engine::buffer_size_max, 0);
  auto stream = Stream(header(Command::write, 1, 1000));
  CHECK(stream.framer.room(pool, 0, false).count == 0);
  CHECK_FALSE(stream.framer.append(pool, 0, pattern(10, 1)));
  REQUIRE(stream.next() == Front::request);
  stream.begin();
  stream.framer.release_buffer_if_possible();
  auto place = Bytes(1000);
  CHECK_FALSE(stream.framer.place(place));
  const auto room = stream.framer.room(pool, 0, false);
  CHECK(room.count == 1);
  CHECK(room.size == 1000);
}
