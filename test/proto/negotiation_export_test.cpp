// EXPORT_NAME, INFO and GO: how a client gets to an export.
#include <catch2/catch.hpp>
#include <string>

#include "test/proto/negotiation_client.h"

using namespace test;
using namespace std::string_literals;
using proto::HeaderStyle;
using proto::TlsMode;
namespace told = proto::transmission_flag;

namespace {

constexpr Option info_and_go[] = {Option::info, Option::go};

Bytes export_name_answer(std::uint64_t size, std::uint16_t flags, std::size_t zeroes) {
  return Builder().u64(size).u16(flags).bytes(Bytes(zeroes)).get();
}

// The transmission flags in the first reply to GO or INFO.
std::uint16_t told_flags(const std::vector<Reply>& replies) {
  REQUIRE(replies.at(0).type == OptionReply::info);
  REQUIRE(replies[0].payload.size() == 12);
  return proto::ByteReader(std::span(replies[0].payload).subspan(10)).u16();
}

}  // namespace

TEST_CASE("EXPORT_NAME is answered with size and flags, and 124 zeroes unless negotiated away") {
  for (std::uint32_t flags = 0; flags < 4; ++flags) {
    CAPTURE(flags);
    Client client(TlsMode::off, flags);
    const auto answer = client.send(option_bytes(Option::export_name, text_bytes("disk")));
    CHECK(client.next == Next::transmit);
    CHECK(to_hex(answer) ==
          to_hex(export_name_answer(0x123456789a, disk_flags, (flags & 2) != 0 ? 0 : 124)));
    CHECK(client.negotiation.result().export_description.name == "disk");
  }
}

TEST_CASE("EXPORT_NAME without a name selects the default export") {
  Client client;
  client.send(option_bytes(Option::export_name));
  CHECK(client.next == Next::transmit);
  CHECK(client.negotiation.result().export_description.name == "disk");
}

TEST_CASE("EXPORT_NAME keeps to structured replies when they were negotiated") {
  Client client;
  client.ask(Option::structured_reply);
  const auto answer = client.send(option_bytes(Option::export_name, text_bytes("disk")));
  CHECK(client.next == Next::transmit);
  CHECK(client.negotiation.result().header_style == HeaderStyle::structured);
  CHECK(to_hex(answer) == to_hex(export_name_answer(0x123456789a, disk_flags | told::send_df, 0)));
}

TEST_CASE("EXPORT_NAME that cannot be served closes the connection without an answer") {
  const std::pair<const char*, Bytes> cases[] = {
      {"unknown", text_bytes("other")},
      {"TLS-only", text_bytes("secret")},
      {"NUL", text_bytes("di\0k"s)},
      {"not UTF-8", text_bytes("d\xffsk")},
      {"too long", Bytes(4097, std::byte{'x'})},
      {"much too long", Bytes(65537, std::byte{'x'})},
  };
  for (const auto& [what, name] : cases) {
    CAPTURE(what);
    Client client;
    CHECK(client.send(option_bytes(Option::export_name, name)).empty());
    CHECK(client.next == Next::close);
    CHECK_FALSE(client.negotiation.reason().empty());
  }
}

TEST_CASE("EXPORT_NAME with an absurd length closes before its data arrives") {
  Client client;
  client.send(Builder().u64(0x49484156454f5054).u32(1).u32(0xffffffff).get());
  CHECK(client.next == Next::close);
}

TEST_CASE("EXPORT_NAME after EXTENDED_HEADERS closes the connection") {
  Client client;
  client.ask(Option::extended_headers);
  CHECK(client.send(option_bytes(Option::export_name, text_bytes("disk"))).empty());
  CHECK(client.next == Next::close);
}

TEST_CASE("INFO and GO always tell size and flags, and nothing that was not asked for") {
  for (const auto option : info_and_go) {
    for (const std::uint32_t flags : {3U, 1U}) {  // no padding, whatever was negotiated
      Client client(TlsMode::off, flags);
      const auto replies = client.ask(option, info_payload("disk"));
      REQUIRE(replies.size() == 2);
      CHECK(replies[0].type == OptionReply::info);
      CHECK(to_hex(replies[0].payload) ==
            to_hex(Builder().u16(info_export).u64(0x123456789a).u16(disk_flags).get()));
      CHECK(replies[1].type == OptionReply::ack);
      CHECK(replies[1].payload.empty());
      CHECK(client.next == (option == Option::go ? Next::transmit : Next::receive));
    }
  }
}

TEST_CASE("INFO and GO tell each information that was asked for, once") {
  const auto payload = info_payload(
      "", {info_block_size, 77, info_name, info_description, info_export, info_block_size});
  for (const auto option : info_and_go) {
    Client client;
    const auto replies = client.ask(option, payload);
    REQUIRE(replies.size() == 5);
    CHECK(to_hex(replies[1].payload) == to_hex(Builder().u16(info_name).text("disk").get()));
    CHECK(to_hex(replies[2].payload) ==
          to_hex(Builder().u16(info_description).text("the demo disk").get()));
    CHECK(to_hex(replies[3].payload) ==
          to_hex(Builder().u16(info_block_size).u32(1).u32(4096).u32(32U << 20).get()));
  }
}

TEST_CASE("an export without description has none to tell") {
  Client client;
  client.directory.exports[0].description.clear();
  CHECK(client.ask(Option::info, info_payload("disk", {info_description})).size() == 2);
}

TEST_CASE("a client that asks for no block sizes is not refused, whatever they are") {
  Client client;
  client.directory.exports[0].block_size_minimum = 4096;
  CHECK(client.ask_type(Option::go, info_payload("disk")) == OptionReply::ack);
  CHECK(client.next == Next::transmit);
}

TEST_CASE("INFO and then GO with the same parameters give the same answer") {
  for (const auto& style :
       {std::vector<Option>{}, {Option::structured_reply}, {Option::extended_headers}}) {
    Client client;
    for (const auto option : style) client.ask(option);
    const auto payload = info_payload("disk", {1, 2, 3});
    const auto info = client.ask(Option::info, payload);
    const auto go = client.ask(Option::go, payload);
    REQUIRE(info.size() == go.size());
    for (std::size_t i = 0; i < info.size(); ++i) {
      CHECK(info[i].type == go[i].type);
      CHECK(info[i].payload == go[i].payload);
    }
  }
}

TEST_CASE("flags that depend on the headers are told only with them") {
  const std::pair<std::vector<Option>, unsigned> cases[] = {
      {{}, 0},
      {{Option::structured_reply}, told::send_df},
      {{Option::extended_headers}, told::send_df | told::block_status_payload},
  };
  for (const auto& [options, added] : cases) {
    // The export's own description must neither bring them nor take them away.
    for (const unsigned described : {0U, told::send_df | told::block_status_payload | 0U}) {
      Client client;
      client.directory.exports[0].transmission_flags =
          static_cast<std::uint16_t>(told::read_only | described);
      for (const auto option : options) client.ask(option);
      const auto flags = told_flags(client.ask(Option::go, info_payload("disk")));
      CHECK(flags == (told::has_flags | told::read_only | added));
      CHECK(client.negotiation.result().export_description.transmission_flags == flags);
    }
  }
}

TEST_CASE("the result of GO is what the directory said, with the flags as told") {
  Client client;
  client.ask(Option::go, info_payload(""));
  const auto& result = client.negotiation.result();
  CHECK(result.export_description.name == "disk");
  CHECK(result.export_description.size == 0x123456789a);
  CHECK(result.export_description.payload_length_max == 32U << 20);
  CHECK(result.header_style == HeaderStyle::simple);
  CHECK(result.contexts.empty());
  CHECK_FALSE(result.tls);
}

TEST_CASE(
    "an unknown export is said to be unknown, with its name, and the client may try another") {
  for (const auto option : info_and_go) {
    Client client;
    const auto replies = client.ask(option, info_payload("other"));
    REQUIRE(replies.size() == 1);
    CHECK(replies[0].type == OptionReply::error_unknown);
    CHECK_THAT(replies[0].text(), Catch::StartsWith("export \"other\" not found"));
    CHECK(client.ask_type(option, info_payload("disk")) == OptionReply::ack);
  }
}

TEST_CASE("the longest name there is comes back shortened") {
  Client client;
  const auto replies = client.ask(Option::go, info_payload(std::string(4096, 'x')));
  REQUIRE(replies.size() == 1);
  CHECK(replies[0].type == OptionReply::error_unknown);
  CHECK(replies[0].payload.size() < 400);
}

TEST_CASE("without exports there is no default export") {
  Client client;
  client.directory.exports.clear();
  CHECK(client.ask_type(Option::go, info_payload("")) == OptionReply::error_unknown);
  CHECK(client.next == Next::receive);
}

TEST_CASE("malformed INFO and GO are refused with ERR_INVALID, in sync") {
  const auto good = info_payload("disk", {1, 2});
  auto longer = good;
  longer.push_back(std::byte{0});
  std::vector<Bytes> cases = {longer, info_payload("di\0k"s), info_payload("d\xffsk"),
                              info_payload(std::string(4097, 'x')),
                              Builder().u32(0xffffffff).text("disk").u16(0).get()};
  for (std::size_t length = 0; length < good.size(); ++length)
    cases.emplace_back(good.begin(), good.begin() + static_cast<std::ptrdiff_t>(length));
  for (const auto option : info_and_go) {
    Client client;
    for (const auto& payload : cases) {
      CAPTURE(to_hex(payload));
      CHECK(client.ask_type(option, payload) == OptionReply::error_invalid);
    }
    CHECK(client.in_sync());
  }
}

TEST_CASE("INFO and GO with more data than is kept are too big, in sync") {
  for (const auto option : info_and_go) {
    Client client;
    CHECK(client.ask_type(option, Bytes(Negotiation::option_length_max)) ==
          OptionReply::error_invalid);
    CHECK(client.ask_type(option, Bytes(Negotiation::option_length_max + 1)) ==
          OptionReply::error_too_big);
    CHECK(client.in_sync());
  }
}

TEST_CASE("an option announced with more data than is skipped in all is answered at once") {
  constexpr auto most = static_cast<std::uint32_t>(Negotiation::skipped_length_max);
  for (const auto option : {Option::go, Option::list, Option::set_meta_context, Option(4711)}) {
    for (const auto length : {most + 1, 0xffffffffU}) {
      CAPTURE(static_cast<std::uint32_t>(option), length);
      Client client;
      const auto header = Builder()
                              .u64(0x49484156454f5054)
                              .u32(static_cast<std::uint32_t>(option))
                              .u32(length)
                              .get();
      const auto replies = test::take_apart(client.send(header));
      REQUIRE(replies.size() == 1);
      CHECK(replies[0].type == OptionReply::error_too_big);
      CHECK(client.next == Next::close);
    }
  }
}

TEST_CASE("the data of all options together is skipped only so far") {
  Client client;
  constexpr auto half = static_cast<std::size_t>(Negotiation::skipped_length_max / 2);
  CHECK(client.ask_type(Option(4711), Bytes(half)) == OptionReply::error_unsupported);
  CHECK(client.ask_type(Option::list, Bytes(half)) == OptionReply::error_invalid);
  CHECK(client.in_sync());
  CHECK(client.ask_type(Option(4711), Bytes(1)) == OptionReply::error_too_big);
  CHECK(client.next == Next::close);
}
