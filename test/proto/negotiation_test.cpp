// The frame of the haggling: greeting, client flags, options in general, and how they are received.
#include "proto/negotiation.h"

#include <catch2/catch.hpp>
#include <string>

#include "test/proto/negotiation_client.h"

using namespace test;
using proto::HeaderStyle;
using proto::TlsMode;

namespace {

constexpr auto unknown_option = static_cast<Option>(0x7777);
constexpr Option options_without_data[] = {Option::list, Option::start_tls,
                                           Option::structured_reply, Option::extended_headers};

}  // namespace

TEST_CASE("the greeting offers fixed newstyle and no zeroes") {
  CHECK(to_hex(Negotiation::greeting()) ==
        "4e42444d41474943"
        "49484156454f5054"
        "0003");
}

TEST_CASE("known client flags are accepted, any unknown one closes the connection") {
  for (std::uint32_t flags = 0; flags < 4; ++flags) {
    CAPTURE(flags);
    Client client(TlsMode::off, flags);
    CHECK(client.next == Next::receive);
    CHECK(client.negotiation.reason().empty());
  }
  for (unsigned bit = 2; bit < 32; ++bit) {
    CAPTURE(bit);
    Client client(TlsMode::off, client_flags_usual | 1U << bit);
    CHECK(client.next == Next::close);
    CHECK_FALSE(client.negotiation.reason().empty());
  }
}

TEST_CASE("a client that does not say fixed newstyle is served all the same") {
  Client client(TlsMode::off, 0);
  CHECK(client.in_sync());
  CHECK(client.ask_type(Option::list) == OptionReply::ack);
  CHECK(client.ask_type(Option::go, info_payload("disk")) == OptionReply::ack);
  CHECK(client.next == Next::transmit);
}

TEST_CASE("a wrong option magic closes the connection without an answer") {
  Client client;
  auto bytes = option_bytes(Option::list);
  bytes[7] ^= std::byte{1};
  CHECK(client.send(bytes).empty());
  CHECK(client.next == Next::close);
}

TEST_CASE("an unknown option of any length is skipped and unsupported, and the next one works") {
  for (const std::size_t length : {0U, 1U, 4096U, 65536U, 65537U, 1U << 20}) {
    CAPTURE(length);
    Client client;
    CHECK(client.ask_type(unknown_option, Bytes(length)) == OptionReply::error_unsupported);
    CHECK(client.ask_type(Option::list) == OptionReply::ack);
  }
}

TEST_CASE("as much as is skipped in all is skipped in pieces of any size and then answered") {
  for (const auto piece_length : {std::size_t{1000}, std::size_t{1} << 24}) {
    Client client;
    auto left = std::size_t{Negotiation::skipped_length_max};
    client.send(Builder().u64(0x49484156454f5054).u32(0x7777).u32(left).get());
    const Bytes piece(piece_length);
    while (left > 0) {
      const auto length = std::min(left, piece.size());
      CHECK(client.negotiation.skippable() == left);
      Bytes output;
      client.negotiation.receive(std::span(piece).first(length), output);
      left -= length;
      CHECK(output.empty() == (left > 0));
    }
    CHECK(client.in_sync());
  }
}

TEST_CASE("options that take no data are refused with it, and the stream stays in sync") {
  for (const auto option : options_without_data) {
    for (const auto tls_mode : {TlsMode::off, TlsMode::allow}) {
      for (const std::size_t length : {1U, 16U, 65537U}) {
        CAPTURE(static_cast<int>(option), length);
        Client client(tls_mode);
        CHECK(client.ask_type(option, Bytes(length)) == OptionReply::error_invalid);
        CHECK(client.in_sync());
      }
    }
  }
}

TEST_CASE("a refused STRUCTURED_REPLY or EXTENDED_HEADERS negotiates nothing") {
  for (const auto option : {Option::structured_reply, Option::extended_headers}) {
    Client client;
    client.ask(option, Bytes(1));
    client.ask(Option::go, info_payload("disk"));
    REQUIRE(client.next == Next::transmit);
    CHECK(client.negotiation.result().header_style == HeaderStyle::simple);
  }
}

TEST_CASE("ABORT is acknowledged, also with data, and closes the connection") {
  for (const std::size_t length : {0U, 1U, 65537U}) {
    CAPTURE(length);
    Client client;
    CHECK(client.ask_type(Option::abort, Bytes(length)) == OptionReply::ack);
    CHECK(client.next == Next::close);
    CHECK(client.consumed == 16 + length);
  }
}

TEST_CASE("after the end no input is accepted") {
  Client client;
  client.ask(Option::abort);
  CHECK(client.send(option_bytes(Option::list)).empty());
  CHECK(client.consumed == 0);
  CHECK(client.next == Next::close);
}

TEST_CASE("STRUCTURED_REPLY and EXTENDED_HEADERS choose the headers") {
  using Case = std::pair<std::vector<Option>, HeaderStyle>;
  const Case cases[] = {
      {{}, HeaderStyle::simple},
      {{Option::structured_reply}, HeaderStyle::structured},
      {{Option::structured_reply, Option::structured_reply}, HeaderStyle::structured},
      {{Option::extended_headers}, HeaderStyle::extended},
      {{Option::structured_reply, Option::extended_headers}, HeaderStyle::extended},
      {{Option::extended_headers, Option::extended_headers}, HeaderStyle::extended},
  };
  for (const auto& [options, style] : cases) {
    Client client;
    for (const auto option : options) CHECK(client.ask_type(option) == OptionReply::ack);
    client.ask(Option::go, info_payload("disk"));
    REQUIRE(client.next == Next::transmit);
    CHECK(client.negotiation.result().header_style == style);
  }
}

TEST_CASE("STRUCTURED_REPLY after EXTENDED_HEADERS is refused and changes nothing") {
  Client client;
  CHECK(client.ask_type(Option::extended_headers) == OptionReply::ack);
  CHECK(client.ask_type(Option::structured_reply) == OptionReply::error_extended_header_required);
  client.ask(Option::go, info_payload("disk"));
  CHECK(client.negotiation.result().header_style == HeaderStyle::extended);
}

TEST_CASE("LIST names every export with its description") {
  Client client;
  client.directory.exports[1].tls_required = false;
  const auto replies = client.ask(Option::list);
  REQUIRE(replies.size() == 3);
  CHECK(replies[0].type == OptionReply::server);
  CHECK(to_hex(replies[0].payload) ==
        to_hex(Builder().u32(4).text("disk").text("the demo disk").get()));
  CHECK(to_hex(replies[1].payload) == to_hex(Builder().u32(6).text("secret").get()));
  CHECK(replies[2].type == OptionReply::ack);
}

TEST_CASE("LIST without exports is just acknowledged") {
  Client client;
  client.directory.exports.clear();
  CHECK(client.ask(Option::list).size() == 1);
}

TEST_CASE("a server that shuts down refuses every option but ABORT") {
  const auto shut_down = [](Client& client) { client.negotiation.shutdown(); };
  for (const auto option : {Option::list, Option::info, Option::go, Option::structured_reply,
                            Option::set_meta_context, unknown_option}) {
    Client client;
    shut_down(client);
    CHECK(client.ask_type(option, info_payload("disk")) == OptionReply::error_shutdown);
    CHECK(client.next == Next::receive);
    CHECK(client.ask_type(Option::abort) == OptionReply::ack);
    CHECK(client.next == Next::close);
  }
  Client client;
  shut_down(client);
  CHECK(client.send(option_bytes(Option::export_name, text_bytes("disk"))).empty());
  CHECK(client.next == Next::close);
}

TEST_CASE("options are counted, whatever became of them") {
  Client client;
  CHECK(client.negotiation.option_count() == 0);
  client.ask(Option::list);
  client.ask(unknown_option, Bytes(3));
  client.ask(Option::go, Bytes(3));
  CHECK(client.negotiation.option_count() == 3);
}

TEST_CASE("what was refused last can be logged") {
  Client client;
  CHECK(client.negotiation.reason().empty());
  client.ask(Option::go, info_payload("other\n"));
  const std::string reason(client.negotiation.reason());
  CHECK_THAT(reason, Catch::Contains("GO"));
  CHECK_THAT(reason, Catch::Contains("\"other?\""));
}

namespace {

// A session with a bit of everything, and the first request behind it.
Bytes whole_session() {
  Builder session;
  session.u32(client_flags_usual);
  session.bytes(option_bytes(unknown_option, Bytes(70000)));
  session.bytes(option_bytes(Option::structured_reply));
  session.bytes(option_bytes(Option::list));
  session.bytes(option_bytes(Option::list, Bytes(3)));
  session.bytes(option_bytes(Option::info, info_payload("other")));
  session.bytes(option_bytes(Option::info, info_payload("disk", {1, 2, 3})));
  session.bytes(option_bytes(Option::set_meta_context, meta_payload("disk", {"base:allocation"})));
  session.bytes(option_bytes(Option::set_meta_context, Bytes(65537)));
  session.bytes(option_bytes(Option::go, info_payload("disk", {3})));
  session.text("the first request");
  return session.get();
}

}  // namespace

TEST_CASE("options, GO and the first request in one segment work") {
  Directory directory;
  Negotiation negotiation(directory, TlsMode::off);
  const auto session = whole_session();
  Bytes output;
  const auto progress = negotiation.receive(session, output);
  CHECK(progress.next == Next::transmit);
  CHECK(session.size() - progress.consumed == std::string_view("the first request").size());
  const auto replies = take_apart(output);
  CHECK(replies.back().type == OptionReply::ack);
  CHECK(replies.back().option == Option::go);
}

TEST_CASE("pieces of any size give the same answers as the whole") {
  const auto session = whole_session();
  Directory directory;
  Negotiation whole(directory, TlsMode::off);
  Bytes expected;
  const auto end = whole.receive(session, expected);

  for (const std::size_t size : {1U, 2U, 3U, 7U, 16U, 17U, 1000U, 65536U}) {
    CAPTURE(size);
    Negotiation negotiation(directory, TlsMode::off);
    Bytes output;
    std::size_t sent = 0;
    Negotiation::Progress progress;
    while (progress.next == Next::receive) {
      const auto piece =
          std::span(session).subspan(sent).first(std::min(size, session.size() - sent));
      progress = negotiation.receive(piece, output);
      sent += progress.consumed;
    }
    CHECK(progress.next == Next::transmit);
    CHECK(sent == end.consumed);
    CHECK(output == expected);
  }
}

TEST_CASE("an empty input changes nothing") {
  Client client;
  CHECK(client.send({}).empty());
  CHECK(client.next == Next::receive);
  CHECK(client.in_sync());
}
