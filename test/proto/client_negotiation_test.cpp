#include "proto/client_negotiation.h"

#include <catch2/catch.hpp>
#include <string>
#include <utility>
#include <vector>

#include "proto/negotiation.h"
#include "test/proto/negotiation_client.h"
#include "test/support/bytes.h"

using proto::ClientNegotiation;
using test::Builder;
using test::Bytes;
using test::to_hex;
using ClientNext = ClientNegotiation::Next;

namespace {

constexpr std::uint64_t nbdmagic = 0x4e42444d41474943;
constexpr std::uint64_t ihaveopt = 0x49484156454f5054;
constexpr std::uint64_t reply_magic = 0x0003e889045565a9;
constexpr std::uint64_t go = 7;

Bytes greeting(std::uint64_t flags = 3) {
  return Builder().u64(nbdmagic).u64(ihaveopt).u16(flags).get();
}

Bytes reply(std::uint64_t type, const Bytes& data = {}, std::uint64_t option = go) {
  return Builder().u64(reply_magic).u32(option).u32(type).u32(data.size()).bytes(data).get();
}

Bytes operator+(Bytes left, const Bytes& right) {
  left.insert(left.end(), right.begin(), right.end());
  return left;
}

const Bytes export_reply = reply(3, Builder().u16(0).u64(0x12345600).u16(0x16d).get());
const Bytes block_size_reply = reply(3, Builder().u16(3).u32(1).u32(4096).u32(33554432).get());
const Bytes ack = reply(1);

// A client that has received a stream, up to its end or to the end of the handshake.
struct Session {
  explicit Session(const Bytes& stream, std::string name = "disk", std::size_t step = 4096)
      : client(std::move(name)) {
    auto rest = std::span(stream);
    while (!rest.empty() && next == ClientNext::receive) {
      const auto size = std::min({step, client.missing(), rest.size()});
      REQUIRE(size > 0);
      next = client.receive(rest.first(size), sent);
      rest = rest.subspan(size);
    }
    left = rest.size();
  }

  ClientNegotiation client;
  ClientNext next = ClientNext::receive;
  Bytes sent;
  std::size_t left = 0;
};

}  // namespace

TEST_CASE("the client asks for its export with GO and for the block sizes") {
  const auto session = Session(greeting());
  CHECK(session.next == ClientNext::receive);
  const auto expected =
      Builder().u32(3).u64(ihaveopt).u32(go).u32(12).u32(4).text("disk").u16(1).u16(3).get();
  CHECK(to_hex(session.sent) == to_hex(expected));
}

TEST_CASE("the client keeps to the flags that the server offers") {
  CHECK(to_hex(Session(greeting(1)).sent).starts_with("00000001"));
  CHECK(to_hex(Session(greeting(0xffff)).sent).starts_with("00000003"));
}

TEST_CASE("an ACK begins the transmission phase, and nothing behind it is taken") {
  const auto step = GENERATE(1U, 7U, 4096U);
  const auto stream =
      greeting() + export_reply + block_size_reply + ack + Bytes(5, std::byte{0x77});
  const auto session = Session(stream, "disk", step);
  REQUIRE(session.next == ClientNext::transmit);
  CHECK(session.left == 5);
  CHECK(session.client.missing() == 0);
  const auto& result = session.client.result();
  CHECK(result.size == 0x12345600);
  CHECK(result.transmission_flags == 0x16d);
  CHECK(result.block_size_minimum == 1);
  CHECK(result.block_size_preferred == 4096);
  CHECK(result.payload_length_max == 33554432);
}

TEST_CASE("information that nobody asked for is skipped") {
  const auto name = reply(3, Builder().u16(1).text("disk").get());
  const auto session = Session(greeting() + name + export_reply + ack);
  CHECK(session.next == ClientNext::transmit);
  CHECK(session.client.result().block_size_minimum == 0);
}

TEST_CASE("a server without GO is asked with EXPORT_NAME") {
  const auto [flags, zeroes] = GENERATE(table<unsigned, std::size_t>({{1, 124}, {3, 0}}));
  const auto answer = Builder().u64(1 << 20).u16(0x5).bytes(Bytes(zeroes)).get();
  const auto session = Session(greeting(flags) + reply(0x80000001) + answer);
  REQUIRE(session.next == ClientNext::transmit);
  CHECK(session.left == 0);
  CHECK(session.client.result().size == 1 << 20);
  CHECK(session.client.result().transmission_flags == 5);
  const auto option = Builder().u64(ihaveopt).u32(1).u32(4).text("disk").get();
  CHECK(to_hex(session.sent).ends_with(to_hex(option)));
}

TEST_CASE("the client says why a handshake failed") {
  struct Case {
    Bytes stream;
    std::string reason;
  };
  const auto text = [](std::string_view words) { return Builder().text(words).get(); };
  const auto cases = std::vector<Case>{
      {Builder().u64(1).u64(ihaveopt).u16(3).get(), "no NBD server"},
      {Builder().u64(nbdmagic).u64(0x00420281861253).u16(3).get(), "oldstyle"},
      {Builder().u64(nbdmagic).u64(1).u16(3).get(), "wrong option magic"},
      {greeting(2), "fixed newstyle"},
      {greeting() + reply(0x80000006, text("not here")),
       "refused the export \"disk\" (ERR_UNKNOWN: \"not here\")"},
      {greeting() + reply(0x80000002), "(ERR_POLICY)"},
      {greeting() + reply(0x80000005), "requires TLS"},
      {greeting() + reply(0x80001234), "refused the export"},
      {greeting() + ack, "without saying how large"},
      {greeting() + reply(1, {}, 6), "no reply to GO"},
      {greeting() + Builder().u64(1).u32(go).u32(1).u32(0).get(), "no reply to GO"},
      {greeting() + Builder().u64(reply_magic).u32(go).u32(3).u32(1 << 30).get(), "too long"},
      {greeting() + reply(3, Builder().u16(0).u64(1).get()), "malformed"},
      {greeting() + reply(3, Builder().u16(3).u64(1).u64(1).get()), "malformed"},
      {greeting() + reply(3, {}), "malformed"},
  };
  for (const auto& entry : cases) {
    CAPTURE(entry.reason);
    const auto session = Session(entry.stream);
    CHECK(session.next == ClientNext::failed);
    CHECK(session.client.missing() == 0);
    CHECK_THAT(std::string(session.client.reason()), Catch::Contains(entry.reason));
  }
}

TEST_CASE("control characters in a server's error text do not reach the terminal") {
  const auto session = Session(greeting() + reply(0x80000006, Builder().text("\x1b[2Jgone").get()));
  CHECK(session.client.reason().find('\x1b') == std::string_view::npos);
}

TEST_CASE("a server that informs without end is given up") {
  auto stream = greeting();
  for (auto count = 0U; count <= ClientNegotiation::replies_max; ++count)
    stream = stream + export_reply;
  CHECK(Session(stream).next == ClientNext::failed);
}

TEST_CASE("the client and our own server come to terms") {
  auto directory = test::Directory();
  auto server = proto::Negotiation(directory, proto::TlsMode::off);
  auto client = ClientNegotiation("disk");
  auto to_client = proto::Negotiation::greeting();
  auto next = ClientNext::receive;
  while (next == ClientNext::receive) {
    REQUIRE(to_client.size() >= client.missing());
    const auto size = client.missing();
    auto to_server = Bytes();
    next = client.receive(std::span(to_client).first(size), to_server);
    to_client.erase(to_client.begin(), to_client.begin() + static_cast<std::ptrdiff_t>(size));
    server.receive(to_server, to_client);
  }
  REQUIRE(next == ClientNext::transmit);
  CHECK(to_client.empty());
  CHECK(client.result().size == 0x123456789a);
  CHECK(server.result().header_style == proto::HeaderStyle::simple);
  CHECK(client.result().transmission_flags ==
        server.result().export_description.transmission_flags);
}
