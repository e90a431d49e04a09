#include "server/serving/request_submitter.h"

#include <algorithm>
#include <catch2/catch.hpp>
#include <memory>
#include <vector>

#include "engine/rounding.h"
#include "test/double/memory_device.h"
#include "test/server/serving/test_host.h"
#include "test/support/bytes.h"

using engine::Operation;
using proto::Command;
using proto::HeaderStyle;
using server::Need;
using server::Piece;
using server::Request;
using server::RequestState;
using test::Bytes;
using test::pattern;
namespace flag = proto::command_flag;

namespace {

constexpr auto block = std::size_t{4096};
constexpr auto largest = engine::buffer_size_max;

server::Bounds bounds_with(std::size_t memory, std::uint32_t requests_max) {
  auto bounds = server::derive_bounds({});
  bounds.workers = 1;
  bounds.memory_per_worker = memory;
  bounds.requests_max_per_connection = requests_max;
  return bounds;
}

std::shared_ptr<engine::BlockDevice> make_device() {
  auto options = engine::MemoryDeviceOptions{};
  options.size = 1U << 20;
  options.block_size = block;
  return std::make_shared<engine::MemoryDevice>(options);
}

// A submitter whose operations complete when the test says so.
struct Submissions {
  explicit Submissions(HeaderStyle style = HeaderStyle::structured, std::size_t memory = 32U << 20,
                       std::uint32_t requests_max = 128)
      : host(bounds_with(memory, requests_max)),
        queue(host.io_context(), server::make_queue(target, 16), 0),
        writer(style, slots),
        framer(style),
        submitter(host, queue, slots, writer, style) {}
  ~Submissions() {
    writer.drop_ready();
    writer.drop_listed();
    CHECK(slots.empty());
    CHECK(submitter.in_flight() == 0);
    CHECK(submitter.invariants());
  }

  Request& request(Command command, std::uint64_t offset, std::uint64_t length,
                   std::uint16_t flags = 0) {
    auto* const made = slots.take_request(
        {.flags = flags, .command = command, .offset = offset, .length = length});
    REQUIRE(made != nullptr);
    return *made;
  }
  // A WRITE whose header has been received, and its payload is what receive() brings.
  Request& write(std::uint64_t offset, std::uint64_t length, std::uint16_t flags = 0) {
    auto header = test::Builder();
    header.u32(proto::request_magic).u16(flags).u16(1).u64(7).u64(offset).u32(length);
    REQUIRE(framer.append(host.buffers(), 0, header.get()));
    REQUIRE(framer.look() == server::RequestFramer::Front::request);
    auto verdict = proto::Verdict{};
    verdict.payload_length = length;
    framer.begin(verdict);
    auto& made = request(Command::write, offset, length, flags);
    CHECK(submitter.begin(made, true) == Need::nothing);
    CHECK(made.state == RequestState::receiving);
    return made;
  }
  // As many of these bytes as there is room for.
  std::size_t receive(std::span<const std::byte> bytes) {
    const auto room = framer.room(host.buffers(), 0, false);
    auto count = std::size_t{0};
    for (const auto& part : room.parts()) {
      const auto length = std::min(part.iov_len, bytes.size() - count);
      std::copy_n(bytes.data() + count, length, static_cast<std::byte*>(part.iov_base));
      count += length;
    }
    framer.received(count);
    return count;
  }
  Piece& submitted(std::size_t index) const {
    return *static_cast<Piece*>(host.submitted.at(index));
  }
  std::size_t count() const { return host.submitted.size(); }
  // Completes what was submitted as number `index`, as a connection does.
  void complete(std::size_t index) {
    auto& piece = submitted(index);
    bytes_completed += piece.length;
    submitter.note_completed(piece);
    piece.request->piece_completed({});
    CHECK(writer.complete(piece, static_cast<std::int64_t>(piece.length)));
    writer.drop_ready();
  }
  void complete_all() {
    while (completed_ < count()) complete(completed_++);
  }

  std::shared_ptr<server::Export> target =
      std::make_shared<server::Export>(server::ExportConfig{}, make_device(), server::Bounds{});
  test::TestHost host;
  server::ExportQueue queue;
  server::RequestSlots slots{host.no_connection(), host, queue.metrics()};
  server::ReplyWriter writer;
  server::RequestFramer framer;
  server::RequestSubmitter submitter;
  std::uint64_t bytes_completed = 0;

 private:
  std::size_t completed_ = 0;
};

}  // namespace

TEST_CASE("what moves no data is one operation, with the flags of its request") {
  struct Case {
    Command command;
    std::uint16_t flags;
    Operation operation;
    bool fua, no_hole, fast_zero;
  };
  const auto cases = {
      Case{Command::flush, 0, Operation::flush, false, false, false},
      Case{Command::trim, flag::fua, Operation::discard, true, false, false},
      Case{Command::cache, 0, Operation::cache, false, false, false},
      Case{Command::write_zeroes, 0, Operation::write_zeroes, false, false, false},
      Case{Command::write_zeroes, flag::fua | flag::no_hole, Operation::write_zeroes, true, true,
           false},
      Case{Command::write_zeroes, flag::fast_zero, Operation::write_zeroes, false, false, true},
  };
  for (const auto& [command, flags, operation, fua, no_hole, fast_zero] : cases) {
    CAPTURE(static_cast<int>(command), flags);
    auto submissions = Submissions();
    auto& request = submissions.request(command, 1000, 5'000'000'000, flags);
    CHECK(submissions.submitter.begin(request, false) == Need::nothing);
    REQUIRE(submissions.count() == 1);
    const auto& piece = submissions.submitted(0);
    CHECK(&piece == request.own);
    CHECK(piece.operation == operation);
    CHECK(piece.fua == fua);
    CHECK(piece.no_hole == no_hole);
    CHECK(piece.fast_zero == fast_zero);
    const auto everything = command == Command::flush;  // whatever its header says
    CHECK(piece.offset == (everything ? 0 : 1000));
    CHECK(piece.length == (everything ? 0 : 5'000'000'000));
    CHECK(request.all_submitted);
    CHECK(submissions.submitter.current() == nullptr);
    submissions.complete_all();
  }
}

TEST_CASE("a READ that one buffer takes is one piece, its own, laid out as on the device") {
  auto submissions = Submissions();
  auto& request = submissions.request(Command::read, block + 100, 5000, flag::fua);
  CHECK(submissions.submitter.begin(request, false) == Need::nothing);
  REQUIRE(submissions.count() == 1);
  const auto& piece = submissions.submitted(0);
  CHECK(&piece == request.own);
  CHECK(piece.offset == block + 100);
  CHECK(piece.length == 5000);
  CHECK(piece.fua);
  CHECK(reinterpret_cast<std::uintptr_t>(piece.buffer) % block == 100);
  CHECK(piece.data.size() >= engine::round_up(100 + 5000, block));
  CHECK(request.state == RequestState::on_device);
  submissions.complete_all();
}

TEST_CASE("a READ that no buffer takes is cut where blocks end") {
  const auto style = GENERATE(HeaderStyle::simple, HeaderStyle::structured);
  auto submissions = Submissions(style);
  constexpr auto begin = std::uint64_t{100};
  constexpr auto length = 3 * largest;
  auto& request = submissions.request(Command::read, begin, length);
  CHECK(submissions.submitter.begin(request, false) == Need::nothing);
  REQUIRE(submissions.count() == 4);
  auto next = begin;
  for (auto index = std::size_t{0}; index < 4; ++index) {
    const auto& piece = submissions.submitted(index);
    CHECK(&piece != request.own);
    CHECK(piece.request == &request);
    CHECK(piece.offset == next);
    next += piece.length;
    CHECK((next % block == 0) == (index < 3));
  }
  CHECK(next == begin + length);
  CHECK(request.in_order == (style == HeaderStyle::simple));
  submissions.complete_all();
}

TEST_CASE("a READ takes the buffers that are there, and goes on when there are more") {
  // Half of the memory is what one taker gets.
  auto submissions = Submissions(HeaderStyle::structured, 4 * largest);
  auto& request = submissions.request(Command::read, 0, 8 * largest);
  CHECK(submissions.submitter.begin(request, false) == Need::resources);
  CHECK(submissions.submitter.current() == &request);
  CHECK_FALSE(request.all_submitted);
  const auto before = submissions.count();
  CHECK(before >= 2);
  CHECK(submissions.submitter.resume() == Need::resources);
  CHECK(submissions.count() == before);
  for (auto round = 0; submissions.submitter.current() != nullptr; ++round) {
    REQUIRE(round < 100);
    submissions.complete_all();
    if (submissions.submitter.current() != nullptr) CHECK(request.state == RequestState::waiting);
    submissions.submitter.resume();
  }
  submissions.complete_all();
  CHECK(submissions.bytes_completed == 8 * largest);
}

TEST_CASE("a READ that must not be divided waits for one buffer that takes all of it") {
  auto submissions = Submissions(HeaderStyle::structured, 4 * largest);
  auto held = std::vector<engine::BufferPool::Buffer>{};
  for (auto count = 0; count < 3; ++count)
    held.push_back(submissions.host.buffers().take(largest, largest, 0));
  held.push_back(submissions.host.buffers().take(largest / 2, largest / 2, 0));
  const auto undivided = GENERATE(true, false);
  auto& request = submissions.request(Command::read, 0, proto::df_length_max,
                                      undivided ? flag::df : std::uint16_t{0});
  CHECK(submissions.submitter.begin(request, false) == Need::resources);
  CHECK((submissions.count() == 0) == undivided);
  held.clear();
  CHECK(submissions.submitter.resume() == Need::nothing);
  if (undivided) CHECK(submissions.count() == 1);
  submissions.complete_all();
}

TEST_CASE("the longest READ that must not be divided fits one buffer at any offset") {
  auto submissions = Submissions();
  auto& request = submissions.request(Command::read, block - 1, proto::df_length_max, flag::df);
  CHECK(submissions.submitter.begin(request, false) == Need::nothing);
  CHECK(submissions.count() == 1);
  submissions.complete_all();
}

TEST_CASE("a connection that holds as many slots as it may waits for its own replies") {
  auto submissions = Submissions(HeaderStyle::structured, 32U << 20, 4);
  auto& request = submissions.request(Command::read, 0, 8 * largest);
  CHECK(submissions.submitter.begin(request, false) == Need::replies);
  CHECK(submissions.count() == 3);
  CHECK(submissions.slots.bytes_held() == 3 * largest);  // nothing was taken in vain
  while (submissions.submitter.current() != nullptr) {
    submissions.complete_all();
    submissions.submitter.resume();
  }
  CHECK(submissions.count() == 8);
  submissions.complete_all();
}

TEST_CASE("a WRITE is submitted when its last byte is there") {
  auto submissions = Submissions(HeaderStyle::simple);
  auto& submitter = submissions.submitter;
  const auto payload = pattern(6000, 1);
  auto& request = submissions.write(100, payload.size(), flag::fua);
  for (auto sent = std::size_t{0}; sent < payload.size();) {
    CHECK(submitter.fill(submissions.framer) == Need::bytes);
    CHECK(submitter.filling());
    CHECK(submissions.count() == 0);
    const auto part = std::min<std::size_t>(1000, payload.size() - sent);
    sent += submissions.receive(std::span(payload).subspan(sent, part));
  }
  CHECK(submitter.fill(submissions.framer) == Need::nothing);
  CHECK_FALSE(submitter.filling());
  CHECK(submitter.current() == nullptr);
  REQUIRE(submissions.count() == 1);
  const auto& piece = submissions.submitted(0);
  CHECK(&piece == request.own);
  CHECK(piece.fua);
  CHECK(piece.offset == 100);
  CHECK(reinterpret_cast<std::uintptr_t>(piece.buffer) % block == 100);
  CHECK(Bytes(piece.buffer, piece.buffer + piece.length) == payload);
  submissions.complete_all();
}

TEST_CASE("the pieces of a long WRITE are submitted one by one, each when it is full") {
  auto submissions = Submissions(HeaderStyle::simple);
  const auto payload = pattern(3 * largest, 2);
  submissions.write(512, payload.size(), flag::fua);
  auto need = submissions.submitter.fill(submissions.framer);
  for (auto sent = std::size_t{0}; need == Need::bytes;) {
    sent += submissions.receive(std::span(payload).subspan(sent));
    need = submissions.submitter.fill(submissions.framer);
    for (auto index = std::size_t{0}; index < submissions.count(); ++index) {
      const auto& piece = submissions.submitted(index);
      REQUIRE(piece.offset + piece.length - 512 <= sent);
    }
  }
  CHECK(need == Need::nothing);
  CHECK(submissions.count() > 1);
  auto next = std::size_t{512};
  for (auto index = std::size_t{0}; index < submissions.count(); ++index) {
    const auto& piece = submissions.submitted(index);
    CHECK(piece.offset == next);
    CHECK(piece.fua);
    CHECK(std::equal(piece.buffer, piece.buffer + piece.length,
                     payload.begin() + static_cast<std::ptrdiff_t>(next - 512)));
    next += piece.length;
  }
  CHECK(next == 512 + payload.size());
  submissions.complete_all();
}

TEST_CASE("a WRITE that is interrupted is answered when its pieces on the device are finished") {
  for (const auto length : {std::size_t{6000}, 3 * largest}) {
    CAPTURE(length);
    auto submissions = Submissions(HeaderStyle::simple);
    auto& submitter = submissions.submitter;
    const auto payload = pattern(length - 1, 3);
    auto& request = submissions.write(0, length);
    for (auto sent = std::size_t{0}; sent < payload.size();) {
      REQUIRE(submitter.fill(submissions.framer) == Need::bytes);
      sent += submissions.receive(std::span(payload).subspan(sent));
    }
    REQUIRE(submitter.fill(submissions.framer) == Need::bytes);
    submissions.framer.interrupt();
    CHECK(&submitter.interrupt() == &request);
    CHECK(submitter.current() == nullptr);
    CHECK_FALSE(submitter.filling());
    CHECK(request.error == proto::Error::shutdown);
    CHECK(request.is_over() == (submissions.count() == 0));
    if (request.is_over()) submissions.writer.answer(request);
    submissions.writer.drop_ready();
    submissions.complete_all();
  }
}

TEST_CASE("an interrupted request says its first error") {
  auto submissions = Submissions(HeaderStyle::simple);
  auto& request = submissions.write(0, 3 * largest);
  request.error = proto::Error::io;
  CHECK(submissions.submitter.interrupt().error == proto::Error::io);
  submissions.framer.interrupt();
  submissions.writer.answer(request);
}

TEST_CASE("BLOCK_STATUS looks at all of its range, or at one extent when that is asked for") {
  for (const auto one : {false, true}) {
    CAPTURE(one);
    auto submissions = Submissions();
    auto& request = submissions.request(Command::block_status, 512, 1U << 19,
                                        one ? flag::req_one : std::uint16_t{0});
    CHECK(submissions.submitter.begin(request, false) == Need::nothing);
    REQUIRE(submissions.count() == 1);
    const auto& piece = submissions.submitted(0);
    CHECK(piece.operation == Operation::block_status);
    CHECK(piece.offset == 512);
    CHECK(piece.length == 1U << 19);
    CHECK(piece.one_extent == one);
    CHECK((piece.extents.size() == 1) == one);
    CHECK(submissions.submitter.current() == nullptr);
    submissions.submitter.note_completed(piece);
    request.piece_completed({});
    submissions.slots.give_back(*request.own);
  }
}

TEST_CASE("BLOCK_STATUS with a payload waits for it, and can be dropped") {
  auto submissions = Submissions();
  auto& request = submissions.request(Command::block_status, 0, 24, flag::payload_length);
  CHECK(submissions.submitter.begin(request, true) == Need::nothing);
  CHECK(submissions.submitter.current() == &request);
  CHECK(request.state == RequestState::receiving);
  CHECK(&submissions.submitter.drop_current() == &request);
  CHECK(request.is_over());
  CHECK(submissions.count() == 0);
  submissions.slots.give_back(*request.own);
}

TEST_CASE("what is submitted to a device at rest is held, until the device goes on") {
  auto submissions = Submissions();
  submissions.queue.hold();
  auto& request = submissions.request(Command::read, 0, 512);
  submissions.submitter.begin(request, false);
  CHECK(request.state == RequestState::held);
  submissions.complete_all();
  CHECK(submissions.queue.resume().empty());  // the host of this test has kept it
}
