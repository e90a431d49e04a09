#include "proto/names.h"

#include <catch2/catch.hpp>
#include <cstdint>
#include <set>
#include <string>
#include <string_view>
#include <utility>

using proto::Command;
using proto::Error;
using proto::name;
using proto::Option;
using proto::OptionReply;

TEST_CASE("values have the specification's names") {
  CHECK(name(Command::write_zeroes) == "WRITE_ZEROES");
  CHECK(name(Command::disconnect) == "DISC");
  CHECK(name(Option::start_tls) == "STARTTLS");
  CHECK(name(Option::set_meta_context) == "SET_META_CONTEXT");
  CHECK(name(OptionReply::error_extended_header_required) == "ERR_EXT_HEADER_REQD");
  CHECK(name(OptionReply::ack) == "ACK");
  CHECK(name(Error::no_space) == "ENOSPC");
  CHECK(name(Error::none) == "none");
}

namespace {

// The names of `count` values from `first` on; fails when two are alike.
template <typename Value>
std::set<std::string_view> distinct_names(std::uint32_t first, std::uint32_t count) {
  std::set<std::string_view> names;
  for (std::uint32_t value = first; value < first + count; ++value) {
    const auto text = name(static_cast<Value>(value));
    CAPTURE(value, text);
    CHECK((text == "unknown" || names.insert(text).second));
  }
  return names;
}

}  // namespace

TEST_CASE("each value has a name of its own, and others have none") {
  CHECK(distinct_names<Command>(0, 0x10000).size() == 8);
  CHECK(distinct_names<Option>(0, 1000).size() == 10);
  CHECK(distinct_names<OptionReply>(0, 1000).size() == 4);
  CHECK(distinct_names<OptionReply>(0x80000000, 1000).size() == 10);
  CHECK(distinct_names<Error>(0, 1000).size() == 9);
  CHECK(name(static_cast<Option>(4)) == "unknown");  // PEEK_EXPORT was withdrawn
}
