// validate() of proto/request.h, in the order of its questions.
#include <algorithm>
#include <catch2/catch.hpp>
#include <limits>
#include <utility>
#include <vector>

#include "proto/names.h"
#include "proto/request.h"

using proto::Command;
using proto::Error;
using proto::HeaderStyle;
using proto::RequestHeader;
using proto::RequestRules;
using proto::validate;
using proto::Verdict;
namespace flag = proto::command_flag;
namespace told = proto::transmission_flag;

namespace {

constexpr std::uint64_t kib = 1024;
constexpr std::uint64_t mib = 1024 * kib;
constexpr std::uint64_t gib = 1024 * mib;
constexpr std::uint64_t export_size = 100 * gib;
constexpr std::uint64_t largest = std::numeric_limits<std::uint64_t>::max();

constexpr std::uint16_t everything_told = told::has_flags | told::send_flush | told::send_fua |
                                          told::send_trim | told::send_write_zeroes |
                                          told::send_cache | told::send_fast_zero | told::send_df |
                                          told::can_multi_conn;

constexpr Command commands[] = {Command::read,        Command::write, Command::flush,
                                Command::trim,        Command::cache, Command::write_zeroes,
                                Command::block_status};
constexpr HeaderStyle styles[] = {HeaderStyle::simple, HeaderStyle::structured,
                                  HeaderStyle::extended};

RequestRules rules_for(HeaderStyle style) {
  RequestRules rules;
  rules.export_size = export_size;
  rules.transmission_flags = everything_told;
  rules.header_style = style;
  rules.payload_length_max = 32 * mib;
  rules.block_status_selected = style != HeaderStyle::simple;
  if (style == HeaderStyle::simple) rules.transmission_flags &= ~told::send_df & 0xffff;
  if (style == HeaderStyle::extended) rules.transmission_flags |= told::block_status_payload;
  return rules;
}

// `flags` as a client of this style would send them: PAYLOAD_LEN with each extended write.
RequestHeader make(Command command, HeaderStyle style, std::uint64_t offset, std::uint64_t length,
                   unsigned flags = 0) {
  if (command == Command::write && style == HeaderStyle::extended) flags |= flag::payload_length;
  RequestHeader request;
  request.command = command;
  request.flags = static_cast<std::uint16_t>(flags);
  request.offset = offset;
  request.length = length;
  return request;
}

bool is_ranged(Command command) { return command != Command::flush; }

Error error_of(const RequestHeader& request, const RequestRules& rules) {
  return validate(request, rules).error;
}

}  // namespace

TEST_CASE("every command is valid when it is offered and within the export") {
  for (const auto style : styles) {
    for (const auto command : commands) {
      if (style == HeaderStyle::simple && command == Command::block_status) continue;
      CAPTURE(static_cast<int>(style), proto::name(command));
      const auto verdict = validate(make(command, style, 4 * kib, 64 * kib), rules_for(style));
      CHECK(verdict.error == Error::none);
      CHECK(verdict.reason.empty());
      CHECK_FALSE(verdict.disconnect);
      CHECK(verdict.payload_length == (command == Command::write ? 64 * kib : 0));
    }
  }
}

TEST_CASE("every refusal says why, and only refusals do") {
  for (const auto style : styles) {
    for (unsigned command = 0; command < 10; ++command) {
      for (unsigned flags = 0; flags < 128; ++flags) {
        const auto request =
            make(static_cast<Command>(command), style, export_size - 512, 512 * (flags % 3), flags);
        const auto verdict = validate(request, rules_for(style));
        CAPTURE(static_cast<int>(style), command, flags);
        CHECK(verdict.reason.empty() == (verdict.error == Error::none));
        CHECK((!verdict.disconnect || verdict.error != Error::none));
      }
    }
  }
}

TEST_CASE("an unknown command is refused with EINVAL, and its payload is consumed") {
  for (const unsigned number : {8U, 9U, 100U, 0xffffU}) {
    const auto command = static_cast<Command>(number);
    for (const auto style : styles) {
      const auto verdict = validate(make(command, style, largest, 512), rules_for(style));
      CHECK(verdict.error == Error::invalid);
      CHECK(verdict.payload_length == 0);
      CHECK_FALSE(verdict.disconnect);
    }
    const auto with_payload = make(command, HeaderStyle::extended, 0, 512, flag::payload_length);
    const auto verdict = validate(with_payload, rules_for(HeaderStyle::extended));
    CHECK(verdict.error == Error::invalid);
    CHECK(verdict.payload_length == 512);
    CHECK_FALSE(verdict.disconnect);
  }
}

TEST_CASE("a flag is allowed with the commands it belongs to, and with no others") {
  using Allowed = std::pair<unsigned, std::vector<Command>>;
  const Allowed table[] = {
      {flag::fua,
       {Command::read, Command::write, Command::flush, Command::trim, Command::cache,
        Command::write_zeroes, Command::block_status}},
      {flag::no_hole, {Command::write_zeroes}},
      {flag::df, {Command::read}},
      {flag::req_one, {Command::block_status}},
      {flag::fast_zero, {Command::write_zeroes}},
      {1U << 6, {}},
      {1U << 15, {}},
  };
  for (const auto style : {HeaderStyle::structured, HeaderStyle::extended}) {
    for (const auto& [tested, allowed] : table) {
      for (const auto command : commands) {
        CAPTURE(static_cast<int>(style), tested, proto::name(command));
        const auto verdict = validate(make(command, style, 0, 512, tested), rules_for(style));
        const bool expected = std::find(allowed.begin(), allowed.end(), command) != allowed.end();
        CHECK(verdict.error == (expected ? Error::none : Error::invalid));
        CHECK(verdict.payload_length == (command == Command::write ? 512 : 0));
        CHECK_FALSE(verdict.disconnect);
      }
    }
  }
}

TEST_CASE("a flag that was not offered is refused") {
  auto rules = rules_for(HeaderStyle::structured);
  rules.transmission_flags = told::has_flags | told::send_write_zeroes | told::send_flush |
                             told::send_trim | told::send_cache;
  for (const auto command : commands) {
    CAPTURE(proto::name(command));
    CHECK(error_of(make(command, HeaderStyle::structured, 0, 512), rules) == Error::none);
    CHECK(error_of(make(command, HeaderStyle::structured, 0, 512, flag::fua), rules) ==
          Error::invalid);
  }
  CHECK(error_of(make(Command::read, HeaderStyle::structured, 0, 512, flag::df), rules) ==
        Error::invalid);
  CHECK(error_of(make(Command::write_zeroes, HeaderStyle::structured, 0, 512, flag::fast_zero),
                 rules) == Error::invalid);
  CHECK(error_of(make(Command::write_zeroes, HeaderStyle::structured, 0, 512, flag::no_hole),
                 rules) == Error::none);
}

TEST_CASE("a read-only export refuses what would change it with EPERM") {
  for (const auto style : styles) {
    auto rules = rules_for(style);
    rules.transmission_flags |= told::read_only;
    for (const auto command : {Command::write, Command::trim, Command::write_zeroes}) {
      CAPTURE(static_cast<int>(style), proto::name(command));
      const auto verdict = validate(make(command, style, 0, 512), rules);
      CHECK(verdict.error == Error::perm);
      CHECK(verdict.payload_length == (command == Command::write ? 512 : 0));
      CHECK_FALSE(verdict.disconnect);
    }
    CHECK(error_of(make(Command::read, style, 0, 512), rules) == Error::none);
    CHECK(error_of(make(Command::flush, style, 0, 0), rules) == Error::none);
    CHECK(error_of(make(Command::cache, style, 0, 512), rules) == Error::none);
  }
}

TEST_CASE("EPERM comes before other reasons, but after unknown flags") {
  auto rules = rules_for(HeaderStyle::structured);
  rules.transmission_flags = told::has_flags | told::read_only;
  CHECK(error_of(make(Command::trim, HeaderStyle::structured, largest, 1), rules) == Error::perm);
  CHECK(error_of(make(Command::trim, HeaderStyle::structured, 0, 1, flag::df), rules) ==
        Error::invalid);
}

TEST_CASE("a command that was not offered is refused with EINVAL") {
  const std::pair<Command, std::uint16_t> table[] = {
      {Command::flush, told::send_flush},
      {Command::trim, told::send_trim},
      {Command::cache, told::send_cache},
      {Command::write_zeroes, told::send_write_zeroes},
  };
  for (const auto& [command, offer] : table) {
    CAPTURE(proto::name(command));
    auto rules = rules_for(HeaderStyle::simple);
    rules.transmission_flags = told::has_flags | offer;
    CHECK(error_of(make(command, HeaderStyle::simple, 0, 512), rules) == Error::none);
    rules.transmission_flags = everything_told & ~offer & 0xffff;
    CHECK(error_of(make(command, HeaderStyle::simple, 0, 512), rules) == Error::invalid);
  }
}

TEST_CASE("no range beyond the end of the export is let through, also when the sum wraps") {
  const std::pair<std::uint64_t, std::uint64_t> beyond[] = {
      {export_size - 512, 513},      {export_size, 1},
      {export_size + 1, 0},          {largest, 1},
      {largest - 511, 512},          {largest - 510, 512},
      {1U << 20, 0xffffffff},        {largest, 0xffffffff},
      {std::uint64_t{1} << 63, 512},
  };
  for (const auto style : styles) {
    for (const auto command : commands) {
      if (!is_ranged(command)) continue;
      for (auto [offset, length] : beyond) {
        auto rules = rules_for(style);
        rules.payload_length_max = 0xffffffff;
        if (length == 0xffffffff) rules.export_size = gib;
        CAPTURE(static_cast<int>(style), proto::name(command), offset, length);
        const bool no_space = command == Command::write || command == Command::write_zeroes;
        CHECK(error_of(make(command, style, offset, length), rules) ==
              (no_space ? Error::no_space : Error::invalid));
      }
    }
  }
}

TEST_CASE("64-bit lengths beyond the end are refused, those within are served") {
  const auto rules = rules_for(HeaderStyle::extended);
  for (const auto command :
       {Command::trim, Command::write_zeroes, Command::cache, Command::block_status}) {
    CAPTURE(proto::name(command));
    CHECK(error_of(make(command, HeaderStyle::extended, 0, export_size), rules) == Error::none);
    for (const std::uint64_t length :
         {export_size + 1, largest, largest - 511, std::uint64_t{1} << 63})
      CHECK(error_of(make(command, HeaderStyle::extended, 512, length), rules) != Error::none);
  }
}

TEST_CASE("the last byte can be reached, and zero length at the very end is no error") {
  for (const auto style : styles) {
    for (const auto command :
         {Command::read, Command::write, Command::trim, Command::cache, Command::write_zeroes}) {
      CAPTURE(static_cast<int>(style), proto::name(command));
      CHECK(error_of(make(command, style, export_size - 1, 1), rules_for(style)) == Error::none);
      CHECK(error_of(make(command, style, export_size, 0), rules_for(style)) == Error::none);
      CHECK(error_of(make(command, style, 0, 0), rules_for(style)) == Error::none);
    }
  }
}

TEST_CASE("an empty export lets only empty ranges through") {
  auto rules = rules_for(HeaderStyle::structured);
  rules.export_size = 0;
  CHECK(error_of(make(Command::read, HeaderStyle::structured, 0, 0), rules) == Error::none);
  CHECK(error_of(make(Command::read, HeaderStyle::structured, 0, 1), rules) == Error::invalid);
  CHECK(error_of(make(Command::write, HeaderStyle::structured, 0, 1), rules) == Error::no_space);
}

TEST_CASE("a read longer than twice the maximum payload is refused with EOVERFLOW") {
  for (const auto style : styles) {
    const auto rules = rules_for(style);
    // 50 MB are what the NBD project's own test client asks for, whatever it was told.
    for (const auto length : {32 * mib, 32 * mib + 1, std::uint64_t{50'000'000}, 64 * mib})
      CHECK(error_of(make(Command::read, style, 0, length), rules) == Error::none);
    CHECK(error_of(make(Command::read, style, 0, 64 * mib + 1), rules) == Error::overflow);
    CHECK(error_of(make(Command::read, style, 0, 0xffffffff), rules) == Error::overflow);
  }
}

TEST_CASE("commands without payload may be longer than the maximum payload") {
  for (const auto command :
       {Command::trim, Command::write_zeroes, Command::cache, Command::block_status}) {
    CHECK(error_of(make(command, HeaderStyle::structured, 0, 0xffffffff),
                   rules_for(HeaderStyle::structured)) == Error::none);
  }
}

TEST_CASE("an unfragmented read is served up to its limit, beyond that EOVERFLOW") {
  const auto rules = rules_for(HeaderStyle::structured);
  const auto read = [&](std::uint64_t length) {
    return error_of(make(Command::read, HeaderStyle::structured, 0, length, flag::df), rules);
  };
  STATIC_REQUIRE(proto::df_length_max >= 64 * kib);
  CHECK(read(64 * kib) == Error::none);
  CHECK(read(proto::df_length_max) == Error::none);
  CHECK(read(proto::df_length_max + 1) == Error::overflow);
}

TEST_CASE("a write that is too long is consumed and refused; an absurd one disconnects") {
  const auto write = [](HeaderStyle style, std::uint64_t length) {
    return validate(make(Command::write, style, 0, length), rules_for(style));
  };
  for (const auto style : {HeaderStyle::simple, HeaderStyle::structured}) {
    CHECK(write(style, 64 * mib).error == Error::none);
    CHECK(write(style, 64 * mib).payload_length == 64 * mib);
    for (const auto length : {64 * mib + 1, 96 * mib}) {
      const auto verdict = write(style, length);
      CHECK(verdict.error == Error::invalid);
      CHECK(verdict.payload_length == length);
      CHECK_FALSE(verdict.disconnect);
    }
    CHECK(write(style, 96 * mib + 1).disconnect);
    CHECK(write(style, 0xffffffff).disconnect);
  }
  CHECK(write(HeaderStyle::extended, 64 * mib).error == Error::none);
  for (const auto length : {64 * mib + 1, 4 * gib, largest})
    CHECK(write(HeaderStyle::extended, length).disconnect);
}

TEST_CASE("with extended headers the default maximum payload is consumed even if less is allowed") {
  auto rules = rules_for(HeaderStyle::extended);
  rules.payload_length_max = mib;
  const auto verdict = validate(make(Command::write, HeaderStyle::extended, 0, 32 * mib), rules);
  CHECK(verdict.error == Error::invalid);
  CHECK(verdict.payload_length == 32 * mib);
  CHECK_FALSE(verdict.disconnect);
  CHECK(validate(make(Command::write, HeaderStyle::extended, 0, 32 * mib + 1), rules).disconnect);
}

TEST_CASE("the limits do not wrap when the largest payload is allowed") {
  for (const auto style : styles) {
    auto rules = rules_for(style);
    rules.payload_length_max = 0xffffffff;
    const auto verdict = validate(make(Command::write, style, 0, 0xffffffff), rules);
    CHECK(verdict.error == Error::none);
    CHECK(verdict.payload_length == 0xffffffff);
  }
}

TEST_CASE("an extended write without PAYLOAD_LEN has its payload all the same, as qemu sends it") {
  const auto rules = rules_for(HeaderStyle::extended);
  for (const auto length : {std::uint64_t{0}, std::uint64_t{512}, 64 * mib, 64 * mib + 1}) {
    CAPTURE(length);
    auto request = make(Command::write, HeaderStyle::extended, 0, length);
    const auto with_flag = validate(request, rules);
    CHECK_FALSE(with_flag.payload_flag_missing);
    request.flags = 0;
    const auto without_flag = validate(request, rules);
    CHECK(without_flag.payload_flag_missing == !with_flag.disconnect);
    CHECK(without_flag.error == with_flag.error);
    CHECK(without_flag.payload_length == with_flag.payload_length);
    CHECK(without_flag.disconnect == with_flag.disconnect);
  }
}

TEST_CASE("PAYLOAD_LEN on other commands is refused, and that many bytes are consumed") {
  for (const auto command :
       {Command::read, Command::flush, Command::trim, Command::cache, Command::write_zeroes}) {
    CAPTURE(proto::name(command));
    const auto request = make(command, HeaderStyle::extended, 0, 512, flag::payload_length);
    const auto verdict = validate(request, rules_for(HeaderStyle::extended));
    CHECK(verdict.error == Error::invalid);
    CHECK(verdict.payload_length == 512);
    CHECK_FALSE(verdict.disconnect);

    auto absurd = request;
    absurd.length = std::uint64_t{1} << 40;
    CHECK(validate(absurd, rules_for(HeaderStyle::extended)).disconnect);
  }
}

TEST_CASE("PAYLOAD_LEN means nothing in compact headers but EINVAL") {
  auto rules = rules_for(HeaderStyle::structured);
  rules.transmission_flags |= told::block_status_payload;  // meaningless without extended headers
  for (const auto command : commands) {
    CAPTURE(proto::name(command));
    const auto request = make(command, HeaderStyle::structured, 0, 12, flag::payload_length);
    const auto verdict = validate(request, rules);
    CHECK(verdict.error == Error::invalid);
    CHECK(verdict.payload_length == (command == Command::write ? 12 : 0));
    CHECK_FALSE(verdict.disconnect);
  }
}

TEST_CASE("block status needs structured replies, a selected context and a length") {
  const auto status = [](HeaderStyle style, const RequestRules& rules, std::uint64_t length) {
    return error_of(make(Command::block_status, style, 0, length), rules);
  };
  auto simple = rules_for(HeaderStyle::simple);
  simple.block_status_selected = true;
  CHECK(status(HeaderStyle::simple, simple, 512) == Error::invalid);
  for (const auto style : {HeaderStyle::structured, HeaderStyle::extended}) {
    auto rules = rules_for(style);
    CHECK(status(style, rules, 512) == Error::none);
    CHECK(status(style, rules, 0) == Error::invalid);
    rules.block_status_selected = false;
    CHECK(status(style, rules, 512) == Error::invalid);
  }
}

TEST_CASE("the payload of block status is let through at possible lengths only") {
  for (std::uint64_t length = 0; length <= 2 * proto::block_status_payload_length_max; ++length) {
    CAPTURE(length);
    // The offset is checked together with the effect length, which is in the payload.
    const auto request = make(Command::block_status, HeaderStyle::extended, largest, length,
                              flag::payload_length | flag::req_one);
    const auto verdict = validate(request, rules_for(HeaderStyle::extended));
    const bool possible = length >= 8 && length % 4 == 0 && length <= 72;
    CHECK(verdict.error == (possible ? Error::none : Error::invalid));
    CHECK(verdict.payload_length == length);
    CHECK_FALSE(verdict.disconnect);
  }
}

TEST_CASE("the payload form of block status is refused where it was not offered") {
  auto rules = rules_for(HeaderStyle::extended);
  rules.transmission_flags &= ~told::block_status_payload & 0xffff;
  const auto verdict = validate(
      make(Command::block_status, HeaderStyle::extended, 0, 12, flag::payload_length), rules);
  CHECK(verdict.error == Error::invalid);
  CHECK(verdict.payload_length == 12);
}

TEST_CASE("offset and length of a flush are ignored") {
  for (const auto style : styles)
    CHECK(error_of(make(Command::flush, style, largest, 0xffffffff), rules_for(style)) ==
          Error::none);
}

TEST_CASE("a disconnect is valid whatever it carries") {
  for (const auto style : styles) {
    const auto verdict =
        validate(make(Command::disconnect, style, largest, 0xffffffff, 0xffff), RequestRules{});
    CHECK(verdict.error == Error::none);
    CHECK(verdict.payload_length == 0);
    CHECK_FALSE(verdict.disconnect);
  }
}
