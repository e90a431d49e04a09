#include "proto/options.h"

#include <catch2/catch.hpp>
#include <string>
#include <string_view>
#include <vector>

#include "proto/meta_context.h"
#include "test/support/bytes.h"

using namespace std::string_literals;
using proto::Option;
using test::Builder;
using test::Bytes;
using test::from_hex;
using test::to_hex;

namespace {

Bytes info_payload(std::string_view name, const std::vector<unsigned>& requests) {
  Builder builder;
  builder.u32(name.size()).text(name).u16(requests.size());
  for (const auto request : requests) builder.u16(request);
  return builder.get();
}

Bytes meta_payload(std::string_view name, const std::vector<std::string>& queries) {
  Builder builder;
  builder.u32(name.size()).text(name).u32(queries.size());
  for (const auto& query : queries) builder.u32(query.size()).text(query);
  return builder.get();
}

std::string blankless(std::string_view hex) { return to_hex(from_hex(hex)); }

}  // namespace

TEST_CASE("an INFO or GO option is a name and information requests") {
  const auto payload = from_hex("00000004 6469736b 0003 0003 0001 0000");
  const auto option = proto::parse_info_option(payload);
  REQUIRE(option);
  CHECK(option->export_name == "disk");
  CHECK(option->name_requested);
  CHECK_FALSE(option->description_requested);
  CHECK(option->block_size_requested);
}

TEST_CASE("an INFO option may name nothing and ask nothing") {
  const auto payload = from_hex("00000000 0000");
  const auto option = proto::parse_info_option(payload);
  REQUIRE(option);
  CHECK(option->export_name.empty());
  CHECK_FALSE(option->name_requested);
  CHECK_FALSE(option->description_requested);
  CHECK_FALSE(option->block_size_requested);
}

TEST_CASE("unknown and repeated information requests are no error") {
  const auto payload = info_payload("disk", {99, 2, 0xffff, 2, 4});
  const auto option = proto::parse_info_option(payload);
  REQUIRE(option);
  CHECK(option->description_requested);
  CHECK_FALSE(option->name_requested);
}

TEST_CASE("an INFO option is refused at every length but the right one") {
  auto payload = info_payload("disk", {1, 2, 3});
  for (std::size_t length = 0; length < payload.size(); ++length) {
    CAPTURE(length);
    CHECK_FALSE(proto::parse_info_option(std::span(payload).first(length)));
  }
  CHECK(proto::parse_info_option(payload));
  payload.push_back(std::byte{0});
  CHECK_FALSE(proto::parse_info_option(payload));
}

TEST_CASE("an INFO option that contradicts itself is refused") {
  for (const auto* payload : {
           "00000005 6469736b 0000",            // the name takes a byte of the count
           "ffffffff 6469736b 0000",            // far beyond the data
           "80000000 6469736b 0000",            //
           "00000003 6469736b 0000",            // a byte of the name left over
           "00000004 6469736b 0001",            // a request announced, none there
           "00000004 6469736b 0000 0001",       // none announced, one there
           "00000004 6469736b ffff 0001 0002",  //
           "00000004 6469006b 0000",            // NUL in the name
           "00000004 64ff736b 0000",            // not UTF-8
       }) {
    CAPTURE(payload);
    CHECK_FALSE(proto::parse_info_option(from_hex(payload)));
  }
}

TEST_CASE("export names end at 4096 bytes") {
  CHECK(proto::parse_info_option(info_payload(std::string(4096, 'x'), {})));
  CHECK_FALSE(proto::parse_info_option(info_payload(std::string(4097, 'x'), {})));
  CHECK(proto::parse_meta_context_option(meta_payload(std::string(4096, 'x'), {})));
  CHECK_FALSE(proto::parse_meta_context_option(meta_payload(std::string(4097, 'x'), {})));
}

TEST_CASE("EXPORT_NAME carries nothing but a name") {
  CHECK(proto::parse_export_name({}) == "");
  const auto name = from_hex("6469736b");
  CHECK(proto::parse_export_name(name) == "disk");
  CHECK_FALSE(proto::parse_export_name(from_hex("64006b")));
  CHECK_FALSE(proto::parse_export_name(Bytes(4097, std::byte{'x'})));
}

TEST_CASE("a metadata context option is a name and queries") {
  const auto payload = from_hex("00000004 6469736b 00000002 00000005 626173653a 00000000");
  const auto option = proto::parse_meta_context_option(payload);
  REQUIRE(option);
  CHECK(option->export_name == "disk");
  CHECK(option->queries == std::vector<std::string_view>{"base:", ""});
}

TEST_CASE("a metadata context option is refused at every length but the right one") {
  auto payload = meta_payload("disk", {"base:allocation", "qemu:"});
  for (std::size_t length = 0; length < payload.size(); ++length) {
    CAPTURE(length);
    CHECK_FALSE(proto::parse_meta_context_option(std::span(payload).first(length)));
  }
  CHECK(proto::parse_meta_context_option(payload));
  payload.push_back(std::byte{0});
  CHECK_FALSE(proto::parse_meta_context_option(payload));
}

TEST_CASE("a metadata context option that contradicts itself is refused") {
  for (const auto* payload : {
           "00000000 ffffffff",                  // queries announced, none there
           "00000000 00000001",                  //
           "00000000 00000000 00000000",         // none announced, one there
           "00000000 00000001 00000004 616263",  // a query longer than the data
           "00000000 00000001 ffffffff 616263",  //
           "ffffffff 00000000",                  //
           "00000000 00000001 00000003 610062",  // NUL in a query
           "00000000 00000001 00000001 ff",      // not UTF-8
           "00000001 00 00000000",               // NUL in the name
       }) {
    CAPTURE(payload);
    CHECK_FALSE(proto::parse_meta_context_option(from_hex(payload)));
  }
  CHECK_FALSE(proto::parse_meta_context_option(meta_payload("", {std::string(4097, 'q')})));
}

TEST_CASE("as many queries as fit are parsed, whatever the count promises") {
  const std::vector<std::string> queries(16000, "");
  const auto payload = meta_payload("", queries);
  const auto option = proto::parse_meta_context_option(payload);
  REQUIRE(option);
  CHECK(option->queries.size() == queries.size());
}

TEST_CASE("queries select or list a context by its name") {
  const auto context = proto::MetaContext{1, "base:allocation"};
  CHECK(context.is_selected_by("base:allocation"));
  CHECK(context.is_listed_by("base:allocation"));
  CHECK_FALSE(context.is_selected_by("base:"));
  CHECK(context.is_listed_by("base:"));
  for (const auto* query : {"", ":", "base", "base:all", "base:allocation2", "Base:allocation",
                            "qemu:", "qemu:dirty-bitmap:x", "x-local:allocation", "allocation"}) {
    CAPTURE(query);
    CHECK_FALSE(context.is_selected_by(query));
    CHECK_FALSE(context.is_listed_by(query));
  }
}

TEST_CASE("option replies have the bytes of the specification") {
  Bytes out;
  proto::append_ack(out, Option::go);
  CHECK(to_hex(out) == blankless("0003e889045565a9 00000007 00000001 00000000"));

  out.clear();
  proto::append_error(out, static_cast<Option>(0xabcdef01), proto::OptionReply::error_unsupported,
                      "no");
  CHECK(to_hex(out) == blankless("0003e889045565a9 abcdef01 80000001 00000002 6e6f"));

  out.clear();
  proto::append_server(out, "disk", "big");
  CHECK(to_hex(out) ==
        blankless("0003e889045565a9 00000003 00000002 0000000b 00000004 6469736b 626967"));

  out.clear();
  proto::append_meta_context(out, Option::set_meta_context, 1, "base:allocation");
  CHECK(to_hex(out) == blankless("0003e889045565a9 0000000a 00000004 00000013 00000001"
                                 "626173653a616c6c6f636174696f6e"));
}

TEST_CASE("information replies have the bytes of the specification") {
  Bytes out;
  proto::append_export_information(out, Option::info, 0x1122334455667788, 0x99aa);
  CHECK(to_hex(out) == blankless("0003e889045565a9 00000006 00000003 0000000c 0000"
                                 "1122334455667788 99aa"));

  out.clear();
  proto::append_text_information(out, Option::go, proto::Information::name, "disk");
  CHECK(to_hex(out) == blankless("0003e889045565a9 00000007 00000003 00000006 0001 6469736b"));

  out.clear();
  proto::append_text_information(out, Option::go, proto::Information::description, "");
  CHECK(to_hex(out) == blankless("0003e889045565a9 00000007 00000003 00000002 0002"));

  out.clear();
  proto::append_block_size_information(out, Option::go, 1, 4096, 0x02000000);
  CHECK(to_hex(out) == blankless("0003e889045565a9 00000007 00000003 0000000e 0003"
                                 "00000001 00001000 02000000"));
}

TEST_CASE("the answer to EXPORT_NAME has 124 zeroes unless they were given up") {
  Bytes out;
  proto::append_export_name_answer(out, 0x1122334455667788, 0x99aa, false);
  CHECK(to_hex(out) == "112233445566778899aa");
  proto::append_export_name_answer(out, 1, 2, true);
  CHECK(to_hex(out) ==
        "112233445566778899aa"
        "00000000000000010002" +
            std::string(248, '0'));
}
