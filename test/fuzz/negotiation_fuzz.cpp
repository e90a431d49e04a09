// The handshake: any split of the client's bytes gives the same answers, every answer is well
// formed, and nobody gets to an export that he may not see.
#include <algorithm>
#include <optional>
#include <string>
#include <vector>

#include "proto/negotiation.h"
#include "proto/text.h"
#include "test/fuzz/fuzz.h"
#include "test/support/bytes.h"

using fuzz::require;
using proto::ExportDescription;
using proto::HeaderStyle;
using proto::Negotiation;
using proto::TlsMode;
using test::Bytes;
using Next = Negotiation::Next;

namespace {

class Directory final : public proto::ExportDirectory {
 public:
  std::vector<ExportDescription> list() override { return {open_export(), secret_export()}; }
  std::optional<ExportDescription> find(std::string_view name) override {
    if (name.empty() || name == "d") return open_export();
    if (name == "s") return secret_export();
    return std::nullopt;
  }

 private:
  static ExportDescription open_export() {
    ExportDescription description;
    description.name = "d";
    description.description = "disk";
    description.size = 1U << 20;
    description.contexts = {{1, "base:allocation"}, {2, "x:y"}};
    return description;
  }
  static ExportDescription secret_export() {
    auto description = open_export();
    description.name = "s";
    description.tls_required = true;
    return description;
  }
};

struct Session {
  Bytes output;
  std::size_t consumed = 0;
  Next next = Next::receive;
  std::size_t option_count = 0;
  std::string reason;
  proto::Negotiated result;
};

// Feeds the stream in pieces whose sizes follow from `seed`; 0: all at once, 1: byte by byte. TLS
// is up as soon as it is asked for, and its bytes are those that follow.
Session run(std::span<const std::byte> stream, TlsMode tls_mode, unsigned seed) {
  Directory directory;
  Negotiation negotiation(directory, tls_mode);
  Session session;
  while (true) {
    const auto rest = stream.subspan(session.consumed);
    std::size_t size = rest.size();
    if (seed == 1) size = 1;
    if (seed > 1) size = 1 + (seed = seed * 1103515245 + 12345) / 65536 % 40;
    const auto piece = rest.first(std::min(size, rest.size()));
    const auto progress = negotiation.receive(piece, session.output);
    session.next = progress.next;
    session.consumed += progress.consumed;
    require(progress.consumed <= piece.size(), "no more is consumed than was there");
    if (progress.next == Next::receive)
      require(progress.consumed == piece.size(), "everything is consumed while receiving");
    if (progress.next == Next::start_tls) negotiation.tls_started();
    const bool over = progress.next == Next::transmit || progress.next == Next::close;
    if (over || session.consumed == stream.size()) break;
  }
  session.option_count = negotiation.option_count();
  session.reason = negotiation.reason();
  session.result = negotiation.result();
  return session;
}

void check_same(const Session& a, const Session& b) {
  require(a.output == b.output, "any split gives the same output");
  require(a.consumed == b.consumed, "any split consumes the same");
  require(a.next == b.next, "any split ends the same");
  require(a.option_count == b.option_count, "any split counts the same");
  require(a.reason == b.reason, "any split has the same reason");
  require(a.result.header_style == b.result.header_style, "any split has the same headers");
  require(a.result.contexts == b.result.contexts, "any split selects the same");
}

// Returns the number of final replies.
std::size_t check_replies(const Session& session) {
  std::size_t final_count = 0;
  fuzz::Input in(reinterpret_cast<const std::uint8_t*>(session.output.data()),
                 session.output.size());
  while (!in.empty()) {
    const auto left = in.rest().size();
    if (session.next == Next::transmit && (left == 10 || left == 134)) {
      const auto size = in.u64();
      if (size == 1U << 20) return final_count + 1;  // the answer to EXPORT_NAME
      require(size == 0x3e889045565a9, "reply magic");
    } else {
      require(in.u64() == 0x3e889045565a9, "reply magic");
    }
    require(in.u32() != 1, "EXPORT_NAME is never answered with an option reply");
    const auto type = in.u32();
    const auto length = in.u32();
    const bool error = (type & 0x80000000) != 0;
    require((type >= 1 && type <= 4) || (error && (type & 0xffff) <= 10), "known reply type");
    require(type != 0x80000008, "never ERR_BLOCK_SIZE_REQD");
    require(length <= in.rest().size(), "the reply is complete");
    require(!error || length < proto::string_length_max, "error texts are short");
    const auto* text = reinterpret_cast<const char*>(in.rest().data());
    require(!error || proto::valid_string({text, length}), "error texts are strings");
    in.number(length);
    if (error || type == 1) ++final_count;
  }
  return final_count;
}

void check_result(const Session& session, TlsMode tls_mode) {
  if (session.next == Next::close) require(!session.reason.empty(), "closing has a reason");
  if (session.next != Next::transmit) return;
  const auto& result = session.result;
  const unsigned flags = result.export_description.transmission_flags;
  const bool extended = result.header_style == HeaderStyle::extended;
  const bool simple = result.header_style == HeaderStyle::simple;
  require((flags & 1U) != 0, "HAS_FLAGS is always told");
  require(((flags & 1U << 7) != 0) == !simple, "SEND_DF is told with structured replies");
  require(((flags & 1U << 12) != 0) == extended, "BLOCK_STATUS_PAYLOAD with extended headers");
  require(!simple || result.contexts.empty(), "no context with simple replies");
  if (result.export_description.tls_required || tls_mode == TlsMode::require)
    require(result.tls, "TLS where it is required");
  if (tls_mode == TlsMode::off) require(!result.tls, "no TLS where it is off");
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* bytes, std::size_t size) {
  fuzz::Input in(bytes, size);
  const auto tls_mode = static_cast<TlsMode>(in.u8() % 3);
  const unsigned seed = 2U + in.u8();
  const auto whole = run(in.rest(), tls_mode, 0);
  check_same(whole, run(in.rest(), tls_mode, 1));
  check_same(whole, run(in.rest(), tls_mode, seed));

  const auto answered = check_replies(whole);
  require(answered <= whole.option_count, "no more than one answer per option");
  // The last one may be incomplete, or closed the connection instead of an answer.
  require(answered + 1 >= whole.option_count, "every option but the last is answered");
  check_result(whole, tls_mode);
  return 0;
}
