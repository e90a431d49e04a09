// LIST_META_CONTEXT and SET_META_CONTEXT: spec, "Metadata querying".
#include <catch2/catch.hpp>
#include <string>
#include <vector>

#include "test/proto/negotiation_client.h"

using namespace test;
using proto::TlsMode;

namespace {

const std::string allocation = "base:allocation";
constexpr Option meta_options[] = {Option::list_meta_context, Option::set_meta_context};

// A client with structured replies.
struct StructuredClient : Client {
  StructuredClient() { ask(Option::structured_reply); }

  // Whether base:allocation came back; checks its form.
  bool contexts(Option option, const std::vector<std::string>& queries,
                std::string_view name = "disk") {
    const auto replies = ask(option, meta_payload(name, queries));
    REQUIRE(replies.back().type == OptionReply::ack);
    REQUIRE(replies.size() <= 2);
    if (replies.size() == 1) return false;
    CHECK(replies[0].type == OptionReply::meta_context);
    const unsigned id = option == Option::set_meta_context ? proto::allocation_context_id : 0;
    CHECK(to_hex(replies[0].payload) == to_hex(Builder().u32(id).text(allocation).get()));
    return true;
  }

  bool selected_after_go(std::string_view name = "disk") {
    ask(Option::go, info_payload(name));
    REQUIRE(next == Next::transmit);
    return negotiation.result().contexts.contains(proto::allocation_context_id);
  }
};

}  // namespace

TEST_CASE("SET selects base:allocation by its full name only, and once") {
  const std::pair<std::vector<std::string>, bool> cases[] = {
      {{}, false},
      {{allocation}, true},
      {{allocation, allocation}, true},
      {{"base:"}, false},
      {{"base:", "qemu:", "x-local:y", "", "nocolon", "base:other"}, false},
      {{"qemu:allocation-depth", allocation, "base:other"}, true},
  };
  for (const auto& [queries, selects] : cases) {
    CAPTURE(queries);
    StructuredClient client;
    CHECK(client.contexts(Option::set_meta_context, queries) == selects);
    CHECK(client.selected_after_go() == selects);
  }
}

TEST_CASE("LIST finds base:allocation by name, by its namespace, and without queries") {
  const std::pair<std::vector<std::string>, bool> cases[] = {
      {{}, true},
      {{allocation}, true},
      {{"base:"}, true},
      {{"base:", allocation}, true},
      {{"base:other"}, false},
      {{"qemu:", "", "nocolon"}, false},
  };
  for (const auto& [queries, found] : cases) {
    CAPTURE(queries);
    StructuredClient client;
    CHECK(client.contexts(Option::list_meta_context, queries) == found);
    CHECK_FALSE(client.selected_after_go());  // listing selects nothing
  }
}

TEST_CASE("metadata contexts need structured replies or extended headers") {
  for (const auto option : meta_options) {
    Client client;
    CHECK(client.ask_type(option, meta_payload("disk", {allocation})) ==
          OptionReply::error_invalid);
    CHECK(client.in_sync());
    client.ask(Option::extended_headers);
    CHECK(client.ask_type(option, meta_payload("disk", {allocation})) == OptionReply::ack);
  }
}

TEST_CASE("a SET that was refused for want of structured replies does not count later") {
  Client client;
  client.ask(Option::set_meta_context, meta_payload("disk", {allocation}));
  client.ask(Option::structured_reply);
  client.ask(Option::go, info_payload("disk"));
  CHECK(client.negotiation.result().contexts.empty());
}

TEST_CASE("every SET replaces the earlier selection, also when it fails") {
  const std::pair<const char*, Bytes> cases[] = {
      {"zero queries", meta_payload("disk", {})},
      {"other contexts", meta_payload("disk", {"qemu:"})},
      {"unknown export", meta_payload("other", {allocation})},
      {"TLS-only export", meta_payload("secret", {allocation})},
      {"malformed", Bytes(3)},
      {"empty", {}},
      {"too long", Bytes(65537)},
  };
  for (const auto& [what, payload] : cases) {
    CAPTURE(what);
    StructuredClient client;
    CHECK(client.contexts(Option::set_meta_context, {allocation}));
    client.ask(Option::set_meta_context, payload);
    CHECK_FALSE(client.selected_after_go());
  }
}

TEST_CASE("LIST and other options leave the selection alone") {
  StructuredClient client;
  CHECK(client.contexts(Option::set_meta_context, {allocation}));
  client.contexts(Option::list_meta_context, {"qemu:"});
  client.ask(Option::list);
  client.ask(Option::info, info_payload("other"));
  client.ask(Option::go, info_payload("other"));
  CHECK(client.selected_after_go());
}

TEST_CASE("a selection holds only for the export name of the final GO") {
  const auto selected = [](std::string_view set_name, std::string_view go_name) {
    StructuredClient client;
    client.directory.exports[1].tls_required = false;
    CHECK(client.contexts(Option::set_meta_context, {allocation}, set_name));
    return client.selected_after_go(go_name);
  };
  CHECK(selected("disk", "disk"));
  CHECK(selected("", ""));
  CHECK_FALSE(selected("disk", "secret"));
  CHECK_FALSE(selected("secret", "disk"));
  CHECK_FALSE(selected("", "disk"));  // the same export, but not the same name
}

TEST_CASE("of several contexts each is listed and selected by its name, in the export's order") {
  StructuredClient client;
  client.directory.exports.front().contexts = {
      {7, "x-backup:dirty"}, {proto::allocation_context_id, allocation}, {9, "x-backup:other"}};
  const auto listed = client.ask(Option::list_meta_context, meta_payload("disk", {"x-backup:"}));
  REQUIRE(listed.size() == 3);
  CHECK(to_hex(listed[0].payload) == to_hex(Builder().u32(0).text("x-backup:dirty").get()));
  CHECK(to_hex(listed[1].payload) == to_hex(Builder().u32(0).text("x-backup:other").get()));
  const auto set = client.ask(Option::set_meta_context,
                              meta_payload("disk", {allocation, "x-backup:dirty", "x-backup:"}));
  REQUIRE(set.size() == 3);
  CHECK(to_hex(set[0].payload) == to_hex(Builder().u32(7).text("x-backup:dirty").get()));
  CHECK(to_hex(set[1].payload) == to_hex(Builder().u32(1).text(allocation).get()));
  client.ask(Option::go, info_payload("disk"));
  const auto& selected = client.negotiation.result().contexts;
  CHECK(std::vector(selected.begin(), selected.end()) == std::vector<std::uint32_t>{7, 1});
}

TEST_CASE("a selection also holds for EXPORT_NAME") {
  StructuredClient client;
  client.contexts(Option::set_meta_context, {allocation});
  client.send(option_bytes(Option::export_name, text_bytes("disk")));
  REQUIRE(client.next == Next::transmit);
  CHECK(client.negotiation.result().contexts.contains(proto::allocation_context_id));
}

TEST_CASE("metadata contexts of unknown exports are refused, in sync") {
  for (const auto option : meta_options) {
    StructuredClient client;
    CHECK(client.ask_type(option, meta_payload("other", {allocation})) ==
          OptionReply::error_unknown);
    CHECK(client.in_sync());
  }
}

TEST_CASE("a metadata context option is malformed at every length but the right one, in sync") {
  const auto good = meta_payload("disk", {allocation, "base:"});
  for (const auto option : meta_options) {
    StructuredClient client;
    for (std::size_t length = 0; length < good.size(); ++length) {
      CAPTURE(length);
      const auto cut = Bytes(good.begin(), good.begin() + static_cast<std::ptrdiff_t>(length));
      CHECK(client.ask_type(option, cut) == OptionReply::error_invalid);
    }
    CHECK(client.ask_type(option, good) == OptionReply::ack);
    CHECK(client.ask_type(option, Bytes(65537)) == OptionReply::error_too_big);
    CHECK(client.in_sync());
  }
}
