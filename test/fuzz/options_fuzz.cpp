// The parsers of option data: what they accept is exactly what it says, and what they show of a
// client's text is harmless.
#include <algorithm>
#include <string>
#include <vector>

#include "proto/meta_context.h"
#include "proto/options.h"
#include "proto/request.h"
#include "proto/text.h"
#include "test/fuzz/fuzz.h"
#include "test/support/bytes.h"

using fuzz::require;
using Payload = std::span<const std::byte>;

namespace {

bool same(Payload a, Payload b) { return std::equal(a.begin(), a.end(), b.begin(), b.end()); }

void check_info(Payload payload) {
  const auto option = proto::parse_info_option(payload);
  if (!option) return;
  require(proto::valid_string(option->export_name), "the name is a string");

  test::Builder again;
  again.u32(option->export_name.size()).text(option->export_name);
  fuzz::Input requests(reinterpret_cast<const std::uint8_t*>(payload.data()), payload.size());
  requests.number(static_cast<unsigned>(again.get().size()));
  const auto count = requests.u16();
  again.u16(count);
  bool name = false;
  bool description = false;
  bool block_size = false;
  for (unsigned i = 0; i < count; ++i) {
    const auto request = requests.u16();
    again.u16(request);
    name = name || request == 1;
    description = description || request == 2;
    block_size = block_size || request == 3;
  }
  require(same(again.get(), payload), "INFO encodes to what was parsed");
  require(name == option->name_requested, "NAME is requested");
  require(description == option->description_requested, "DESCRIPTION is requested");
  require(block_size == option->block_size_requested, "BLOCK_SIZE is requested");
}

void check_meta_context(Payload payload) {
  const auto option = proto::parse_meta_context_option(payload);
  if (!option) return;
  const auto context = proto::MetaContext{1, "base:allocation"};
  test::Builder again;
  again.u32(option->export_name.size()).text(option->export_name);
  again.u32(option->queries.size());
  for (const auto query : option->queries) {
    require(proto::valid_string(query), "a query is a string");
    require(!context.is_selected_by(query) || context.is_listed_by(query),
            "what is selected is listed");
    again.u32(query.size()).text(query);
  }
  require(same(again.get(), payload), "a metadata context option encodes to what was parsed");
}

void check_export_name(Payload payload) {
  const auto name = proto::parse_export_name(payload);
  if (name) require(same(std::as_bytes(std::span(*name)), payload), "the name is the payload");
}

void check_block_status_payload(Payload payload) {
  auto selected = proto::ContextIds();
  for (const auto id : {1U, 2U, 0x100U}) selected.add(id);
  const auto parsed = proto::parse_block_status_payload(payload, selected);
  if (!parsed) return;
  test::Builder again;
  again.u64(parsed->effect_length);
  for (const auto id : parsed->contexts) {
    require(selected.contains(id), "a context that is asked for was selected");
    again.u32(id);
  }
  require(same(again.get(), payload), "a block status payload encodes to what was parsed");
}

void check_quoted(Payload payload) {
  const std::string_view text(reinterpret_cast<const char*>(payload.data()), payload.size());
  const auto shown = proto::quoted(text);
  require(proto::valid_string(shown), "quoted text is a string");
  require(shown.size() <= proto::quoted_length_max + 5, "quoted text is short");
  const auto control = [](char c) { return static_cast<unsigned char>(c) < 0x20 || c == 0x7f; };
  require(std::none_of(shown.begin(), shown.end(), control), "quoted text is harmless");
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* bytes, std::size_t size) {
  const Payload payload = std::as_bytes(std::span(bytes, size));
  check_info(payload);
  check_meta_context(payload);
  check_export_name(payload);
  check_block_status_payload(payload);
  check_quoted(payload);
  return 0;
}
