// STARTTLS and what is refused without it: spec, "TLS support".
#include <catch2/catch.hpp>
#include <string>

#include "test/proto/negotiation_client.h"

using namespace test;
using proto::HeaderStyle;
using proto::TlsMode;

namespace {

constexpr auto unknown_option = static_cast<Option>(0x7777);

void start_tls(Client& client) {
  REQUIRE(client.ask_type(Option::start_tls) == OptionReply::ack);
  REQUIRE(client.next == Next::start_tls);
  client.negotiation.tls_started();
}

}  // namespace

TEST_CASE("STARTTLS is unsupported where TLS is off") {
  Client client;
  CHECK(client.ask_type(Option::start_tls) == OptionReply::error_unsupported);
  CHECK(client.in_sync());
}

TEST_CASE("STARTTLS is acknowledged, and nothing behind it is read in plaintext") {
  for (const auto mode : {TlsMode::allow, TlsMode::require}) {
    Client client(mode);
    const auto plaintext = Builder()
                               .bytes(option_bytes(Option::start_tls))
                               .bytes(option_bytes(Option::structured_reply))
                               .get();
    CHECK(take_apart(client.send(plaintext)).size() == 1);
    CHECK(client.next == Next::start_tls);
    CHECK(client.consumed == 16);  // less than was sent: the caller closes the connection

    CHECK(client.send(option_bytes(Option::list)).empty());
    CHECK(client.consumed == 0);
    CHECK(client.next == Next::start_tls);
  }
}

TEST_CASE("STARTTLS forgets all that was negotiated") {
  for (const auto style : {Option::structured_reply, Option::extended_headers}) {
    Client client(TlsMode::allow);
    client.ask(style);
    client.ask(Option::set_meta_context, meta_payload("disk", {"base:allocation"}));
    start_tls(client);
    client.ask(Option::go, info_payload("disk"));
    REQUIRE(client.next == Next::transmit);
    const auto& result = client.negotiation.result();
    CHECK(result.tls);
    CHECK(result.header_style == HeaderStyle::simple);
    CHECK(result.contexts.empty());
    CHECK(result.export_description.transmission_flags == disk_flags);
  }
}

TEST_CASE("a selection from before STARTTLS does not come back with structured replies") {
  for (const auto* name : {"disk", ""}) {
    Client client(TlsMode::allow);
    client.ask(Option::structured_reply);
    client.ask(Option::set_meta_context, meta_payload(name, {"base:allocation"}));
    start_tls(client);
    client.ask(Option::structured_reply);
    client.ask(Option::go, info_payload(name));
    CHECK(client.negotiation.result().contexts.empty());
  }
}

TEST_CASE("a second STARTTLS is invalid") {
  Client client(TlsMode::allow);
  start_tls(client);
  CHECK(client.ask_type(Option::start_tls) == OptionReply::error_invalid);
  CHECK(client.in_sync());
}

TEST_CASE("where TLS is required everything else but ABORT is refused until it is there") {
  for (const auto option :
       {Option::list, Option::info, Option::go, Option::structured_reply, Option::list_meta_context,
        Option::set_meta_context, Option::extended_headers, unknown_option}) {
    CAPTURE(static_cast<int>(option));
    Client client(TlsMode::require);
    CHECK(client.ask_type(option, info_payload("disk")) == OptionReply::error_tls_required);
    CHECK(client.next == Next::receive);
    start_tls(client);
    CHECK(client.ask_type(Option::go, info_payload("disk")) == OptionReply::ack);
    CHECK(client.next == Next::transmit);
  }
  Client aborting(TlsMode::require);
  CHECK(aborting.ask_type(Option::abort) == OptionReply::ack);
}

TEST_CASE("where TLS is required EXPORT_NAME without it closes the connection") {
  Client client(TlsMode::require);
  CHECK(client.send(option_bytes(Option::export_name, text_bytes("disk"))).empty());
  CHECK(client.next == Next::close);
}

TEST_CASE("where TLS is required a client without fixed newstyle is turned away") {
  for (const std::uint32_t flags : {0U, 2U})
    CHECK(Client(TlsMode::require, flags).next == Next::close);
}

TEST_CASE("a TLS-only export is refused without TLS, by INFO and GO alone as TLS_REQD") {
  Client client(TlsMode::allow);
  for (const auto option : {Option::info, Option::go})
    CHECK(client.ask_type(option, info_payload("secret")) == OptionReply::error_tls_required);
  client.ask(Option::structured_reply);
  for (const auto option : {Option::list_meta_context, Option::set_meta_context})
    CHECK(client.ask_type(option, meta_payload("secret", {})) == OptionReply::error_policy);
  CHECK(client.ask_type(Option::go, info_payload("disk")) == OptionReply::ack);

  Client export_name(TlsMode::allow);
  CHECK(export_name.send(option_bytes(Option::export_name, text_bytes("secret"))).empty());
  CHECK(export_name.next == Next::close);
}

TEST_CASE("a TLS-only export is served and listed with TLS") {
  Client client(TlsMode::allow);
  CHECK(client.ask(Option::list).size() == 2);  // disk, and the acknowledgement
  start_tls(client);
  CHECK(client.ask(Option::list).size() == 3);
  CHECK(client.ask_type(Option::go, info_payload("secret")) == OptionReply::ack);
  CHECK(client.negotiation.result().tls);
}

TEST_CASE("TLS_REQD is never said to a client that cannot ask for TLS") {
  const auto refusal = [](TlsMode mode, std::uint32_t flags) {
    return Client(mode, flags).ask_type(Option::go, info_payload("secret"));
  };
  CHECK(refusal(TlsMode::off, 3) == OptionReply::error_policy);
  CHECK(refusal(TlsMode::allow, 2) == OptionReply::error_policy);
  CHECK(Client(TlsMode::allow, 2).ask_type(Option::start_tls) == OptionReply::error_unsupported);
}

TEST_CASE("the client flags survive STARTTLS") {
  Client client(TlsMode::allow, 1);  // without NO_ZEROES
  start_tls(client);
  CHECK(client.send(option_bytes(Option::export_name, text_bytes("disk"))).size() == 10 + 124);
}

TEST_CASE("TLS that nobody asked for starts nothing") {
  Client client(TlsMode::allow);
  client.ask(Option::structured_reply);
  client.negotiation.tls_started();
  client.ask(Option::go, info_payload("disk"));
  CHECK_FALSE(client.negotiation.result().tls);
  CHECK(client.negotiation.result().header_style == HeaderStyle::structured);
}
