// A client for tests of proto::Negotiation: builds options, takes the replies apart, and checks on
// the way what must hold for every answer.
#pragma once

#include <algorithm>
#include <catch2/catch.hpp>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "proto/byte_reader.h"
#include "proto/negotiation.h"
#include "test/support/bytes.h"

namespace test {

using proto::ExportDescription;
using proto::Negotiation;
using proto::Option;
using proto::OptionReply;
using Next = proto::Negotiation::Next;

inline constexpr std::uint16_t disk_flags = 0x016d;  // all but send_df, which the negotiation adds
inline constexpr std::uint32_t client_flags_usual = 3;  // fixed newstyle, no zeroes
inline constexpr std::uint64_t info_export = 0;
inline constexpr std::uint64_t info_name = 1;
inline constexpr std::uint64_t info_description = 2;
inline constexpr std::uint64_t info_block_size = 3;

class Directory final : public proto::ExportDirectory {
 public:
  Directory() {
    ExportDescription disk;
    disk.name = "disk";
    disk.description = "the demo disk";
    disk.size = 0x123456789a;
    disk.transmission_flags = disk_flags;
    disk.block_size_minimum = 1;
    disk.block_size_preferred = 4096;
    disk.payload_length_max = 32U << 20;
    disk.contexts = {{proto::allocation_context_id, "base:allocation"}};
    exports.push_back(disk);
    disk.name = "secret";
    disk.description.clear();
    disk.tls_required = true;
    exports.push_back(disk);
  }

  std::vector<ExportDescription> list() override { return exports; }

  std::optional<ExportDescription> find(std::string_view name) override {
    const auto found = std::find_if(exports.begin(), exports.end(), [&](const auto& candidate) {
      return name.empty() || candidate.name == name;
    });
    if (found == exports.end()) return std::nullopt;
    return *found;
  }

  std::vector<ExportDescription> exports;
};

struct Reply {
  Option option{};
  OptionReply type{};
  Bytes payload;

  std::string text() const {
    return {reinterpret_cast<const char*>(payload.data()), payload.size()};
  }
};

// Takes a whole stream of option replies apart.
inline std::vector<Reply> take_apart(const Bytes& stream) {
  std::vector<Reply> replies;
  proto::ByteReader in(stream);
  while (!in.at_end()) {
    Reply reply;
    REQUIRE(in.u64() == 0x0003e889045565a9);
    reply.option = static_cast<Option>(in.u32());
    reply.type = static_cast<OptionReply>(in.u32());
    for (const char c : in.text(in.u32())) reply.payload.push_back(static_cast<std::byte>(c));
    REQUIRE(in.ok());
    replies.push_back(reply);
  }
  return replies;
}

inline Bytes option_bytes(Option option, const Bytes& payload = {}) {
  return Builder()
      .u64(0x49484156454f5054)
      .u32(static_cast<std::uint32_t>(option))
      .u32(payload.size())
      .bytes(payload)
      .get();
}

inline Bytes info_payload(std::string_view name, const std::vector<std::uint64_t>& requests = {}) {
  Builder builder;
  builder.u32(name.size()).text(name).u16(requests.size());
  for (const auto request : requests) builder.u16(request);
  return builder.get();
}

inline Bytes meta_payload(std::string_view name, const std::vector<std::string>& queries) {
  Builder builder;
  builder.u32(name.size()).text(name).u32(queries.size());
  for (const auto& query : queries) builder.u32(query.size()).text(query);
  return builder.get();
}

inline Bytes text_bytes(std::string_view text) { return Builder().text(text).get(); }

class Client {
 public:
  explicit Client(proto::TlsMode tls_mode = proto::TlsMode::off,
                  std::uint32_t client_flags = client_flags_usual)
      : negotiation(directory, tls_mode) {
    send(Builder().u32(client_flags).get());
  }

  // Returns what the server answers to these bytes.
  Bytes send(const Bytes& bytes) {
    Bytes output;
    const auto progress = negotiation.receive(bytes, output);
    next = progress.next;
    consumed = progress.consumed;
    if (next == Next::receive) CHECK(consumed == bytes.size());
    return output;
  }

  // The replies to one option. Checks that they belong to it and that the last one is final.
  std::vector<Reply> ask(Option option, const Bytes& payload = {}) {
    const auto replies = take_apart(send(option_bytes(option, payload)));
    for (const auto& reply : replies) {
      CHECK(reply.option == option);
      CHECK(is_final(reply) == (&reply == &replies.back()));
      if (is_error(reply)) {
        CHECK_FALSE(reply.payload.empty());
        CHECK(reply.payload.size() < proto::string_length_max);
      }
    }
    return replies;
  }

  // The final reply to one option.
  OptionReply ask_type(Option option, const Bytes& payload = {}) {
    const auto replies = ask(option, payload);
    REQUIRE_FALSE(replies.empty());
    return replies.back().type;
  }

  // Whether options still get the answer they should: the stream is in sync.
  bool in_sync() {
    return next == Next::receive &&
           ask_type(static_cast<Option>(0x7777)) == OptionReply::error_unsupported &&
           next == Next::receive;
  }

  Directory directory;
  Negotiation negotiation;
  Next next = Next::receive;
  std::size_t consumed = 0;

 private:
  static bool is_error(const Reply& reply) {
    return (static_cast<std::uint32_t>(reply.type) & 0x80000000) != 0;
  }
  static bool is_final(const Reply& reply) {
    return is_error(reply) || reply.type == OptionReply::ack;
  }
};

}  // namespace test
