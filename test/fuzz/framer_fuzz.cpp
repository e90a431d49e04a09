// A stream of requests through the framer, in pieces of sizes that the input chooses, beside a
// second look at the same stream as one run of bytes: both must find the same requests and
// payloads, whatever was received where.
#include <algorithm>
#include <cstring>

#include "server/serving/request_framer.h"
#include "test/fuzz/fuzz.h"
#include "test/fuzz/request_rules.h"
#include "test/support/bytes.h"

using fuzz::require;
using server::RequestFramer;
using Front = RequestFramer::Front;
using Phase = RequestFramer::Phase;

namespace {

// The requests as a reader of the complete stream finds them.
class Reference {
 public:
  Reference(std::span<const std::byte> stream, const proto::RequestRules& rules)
      : rest_(stream), rules_(rules) {}

  Front front(proto::RequestHeader& header, proto::Verdict& verdict) const {
    const auto size = proto::request_size(rules_.header_style);
    if (rest_.size() < size) return Front::incomplete;
    const auto found = proto::decode_request(rest_.first(size), rules_.header_style);
    if (!found) return Front::broken;
    header = *found;
    verdict = proto::validate(header, rules_);
    return Front::request;
  }
  void skip_header() { rest_ = rest_.subspan(proto::request_size(rules_.header_style)); }
  std::span<const std::byte> take(std::uint64_t count) {
    const auto taken = rest_.first(std::min<std::size_t>(rest_.size(), count));
    rest_ = rest_.subspan(taken.size());
    return taken;
  }

 private:
  std::span<const std::byte> rest_;
  const proto::RequestRules& rules_;
};

class Feeder {
 public:
  Feeder(fuzz::Input& in, engine::BufferPool& pool) : in_(in), pool_(pool) {}
  void set_stream(std::span<const std::byte> stream) { rest_ = stream; }

  // False: the stream has ended.
  bool feed(RequestFramer& framer) {
    if (rest_.empty()) return false;
    const auto room = framer.room(pool_, 0, step() % 2 == 0);
    require(room.count > 0, "there is room");
    auto left = std::min<std::size_t>(rest_.size(), 1 + step());
    auto count = std::size_t{0};
    for (const auto& part : room.parts()) {
      const auto length = std::min(left, part.iov_len);
      std::memcpy(part.iov_base, rest_.data(), length);
      rest_ = rest_.subspan(length);
      count += length;
      left -= length;
      if (length < part.iov_len) break;
    }
    framer.received(count);
    if (step() % 4 == 0) framer.release_buffer_if_possible();
    return true;
  }
  std::size_t step() { return steps_[next_++ % std::size(steps_)]; }
  void carve_steps() {
    for (auto& each : steps_) each = in_.u8();
  }

 private:
  fuzz::Input& in_;
  engine::BufferPool& pool_;
  std::span<const std::byte> rest_;
  std::size_t steps_[8] = {};
  std::size_t next_ = 0;
};

void check_equal(std::span<const std::byte> one, std::span<const std::byte> other) {
  require(std::equal(one.begin(), one.end(), other.begin(), other.end()),
          "a payload is what was sent");
}

// False: the stream ended inside the payload.
bool take_payload(RequestFramer& framer, Feeder& feeder, Reference& reference) {
  while (framer.phase() == Phase::payload) {
    const auto size = std::min<std::uint64_t>(framer.unplaced(), 1 + feeder.step() * 16);
    auto place = test::Bytes(static_cast<std::size_t>(size));
    auto full = framer.place(place);
    for (; !full; full = framer.fill()) {
      if (feeder.feed(framer)) continue;
      framer.interrupt();
      require(framer.unread().empty(), "no payload is taken for requests");
      return false;
    }
    check_equal(place, reference.take(size));
  }
  return true;
}

bool take_what_follows(RequestFramer& framer, Feeder& feeder, Reference& reference) {
  switch (framer.phase()) {
    case Phase::header:
      return true;
    case Phase::payload:
      return take_payload(framer, feeder, reference);
    case Phase::block_status_payload: {
      auto payload = framer.take_block_status_payload();
      while (!payload) {
        if (!feeder.feed(framer)) return false;
        payload = framer.take_block_status_payload();
      }
      check_equal(*payload, reference.take(payload->size()));
      return true;
    }
    case Phase::discarded_payload:
      while (!framer.discard())
        if (!feeder.feed(framer)) return false;
      return true;
  }
  return false;
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* bytes, std::size_t size) {
  auto in = fuzz::Input(bytes, size);
  const auto rules = fuzz::carve_request_rules(in);
  static auto pool = engine::BufferPool(engine::buffer_size_max);
  auto feeder = Feeder(in, pool);
  feeder.carve_steps();
  feeder.set_stream(in.rest());
  auto reference = Reference(in.rest(), rules);
  auto framer = RequestFramer(rules.header_style);
  for (;;) {
    auto front = framer.look();
    while (front == Front::incomplete && feeder.feed(framer)) front = framer.look();
    auto header = proto::RequestHeader{};
    auto verdict = proto::Verdict{};
    require(front == reference.front(header, verdict), "both find the same");
    if (front != Front::request) break;
    require(header.cookie == framer.header().cookie && header.offset == framer.header().offset &&
                header.length == framer.header().length,
            "both find the same request");
    if (verdict.disconnect || header.command == proto::Command::disconnect) break;
    framer.begin(verdict);
    reference.skip_header();
    if (framer.phase() == Phase::discarded_payload) reference.take(verdict.payload_length);
    if (!take_what_follows(framer, feeder, reference)) break;
    require(framer.invariants(), "the framer is sound");
  }
  return 0;
}
