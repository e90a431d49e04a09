// The client's handshake against any server: any split of the server's bytes gives the same, it
// never asks for nothing while it waits, and it ends.
#include <algorithm>
#include <string>

#include "proto/client_negotiation.h"
#include "test/fuzz/fuzz.h"
#include "test/support/bytes.h"

using fuzz::require;
using proto::ClientNegotiation;
using test::Bytes;
using Next = ClientNegotiation::Next;

namespace {

struct Session {
  Bytes sent;
  std::size_t consumed = 0;
  Next next = Next::receive;
  std::uint64_t size = 0;
  std::string reason;
};

Session run(std::span<const std::byte> stream, std::size_t step) {
  auto client = ClientNegotiation("disk");
  auto session = Session();
  while (session.consumed < stream.size() && session.next == Next::receive) {
    require(client.missing() > 0, "a client that waits wants bytes");
    require(client.missing() <= ClientNegotiation::reply_length_max, "it wants them in bounds");
    const auto rest = stream.subspan(session.consumed);
    const auto size = std::min({step, client.missing(), rest.size()});
    session.next = client.receive(rest.first(size), session.sent);
    session.consumed += size;
  }
  require((session.next == Next::receive) == (client.missing() > 0), "it wants bytes to the end");
  require((session.next == Next::failed) == !client.reason().empty(), "a failure has a reason");
  session.size = client.result().size;
  session.reason = client.reason();
  return session;
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* bytes, std::size_t size) {
  const auto stream = std::as_bytes(std::span(bytes, size));
  const auto at_once = run(stream, size);
  const auto in_pieces = run(stream, 1);
  require(at_once.sent == in_pieces.sent, "a split changes what is sent");
  require(at_once.consumed == in_pieces.consumed, "a split changes what is consumed");
  require(at_once.next == in_pieces.next, "a split changes the outcome");
  require(at_once.size == in_pieces.size, "a split changes the size");
  require(at_once.reason == in_pieces.reason, "a split changes the reason");
  return 0;
}
