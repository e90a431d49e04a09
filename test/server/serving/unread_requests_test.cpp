#include "server/serving/unread_requests.h"

#include <catch2/catch.hpp>

#include "test/support/test_client.h"

using proto::Command;
using server::may_change;
using test::Bytes;
using test::Client;
using test::Style;

namespace {

proto::RequestRules rules_of(proto::HeaderStyle style) {
  auto rules = proto::RequestRules{};
  rules.export_size = 1U << 20;
  rules.transmission_flags = 0xffff & ~proto::transmission_flag::read_only;
  rules.header_style = style;
  rules.payload_length_max = 1U << 20;
  rules.block_status_selected = true;
  return rules;
}

Bytes operator+(Bytes one, const Bytes& other) {
  one.insert(one.end(), other.begin(), other.end());
  return one;
}

Bytes compact(Command command, std::uint64_t offset = 0, std::uint64_t length = 4096) {
  return Client::encode_request(Style::simple, command, 1, offset, length, 0);
}

}  // namespace

TEST_CASE("unread requests may change the export when one of them is a change") {
  const auto rules = rules_of(proto::HeaderStyle::simple);
  const auto reads =
      compact(Command::read) + compact(Command::flush, 0, 0) + compact(Command::cache);
  CHECK_FALSE(may_change({}, rules));
  CHECK_FALSE(may_change(reads, rules));
  for (const auto command : {Command::write, Command::trim, Command::write_zeroes}) {
    const auto all = reads + compact(command);
    CHECK(may_change(all, rules));
    // A header that is not complete never will be.
    CHECK_FALSE(may_change(std::span(all).first(all.size() - 1), rules));
    // Nothing is read behind DISC, or behind nonsense.
    CHECK_FALSE(may_change(compact(Command::disconnect, 0, 0) + all, rules));
    CHECK_FALSE(may_change(Bytes(28) + all, rules));
    // A refused one changes nothing; its payload is not taken for a request.
    const auto refused = compact(command, 1U << 20);
    const auto payload = command == Command::write ? Bytes(4096) : Bytes{};
    CHECK_FALSE(may_change(refused + payload + reads, rules));
    CHECK(may_change(refused + payload + all, rules));
  }
}

TEST_CASE("the payload of a BLOCK_STATUS is not taken for a request") {
  const auto rules = rules_of(proto::HeaderStyle::extended);
  const auto write = Client::encode_request(Style::extended, Command::write, 1, 0, 4096,
                                            proto::command_flag::payload_length);
  auto query = Client::encode_request(Style::extended, Command::block_status, 1, 0, write.size(),
                                      proto::command_flag::payload_length);
  CHECK_FALSE(may_change(query + write, rules));
  CHECK(may_change(query + write + write, rules));
}
