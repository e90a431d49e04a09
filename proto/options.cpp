#include "proto/options.h"

#include "proto/byte_reader.h"
#include "proto/byte_writer.h"
#include "proto/text.h"
#include "proto/wire.h"

namespace proto {
namespace {

void append_header(std::vector<std::byte>& out, Option option, OptionReply type,
                   std::size_t length) {
  WireOptionReply reply;
  reply.magic = option_reply_magic;
  reply.option = static_cast<std::uint32_t>(option);
  reply.type = static_cast<std::uint32_t>(type);
  reply.length = static_cast<std::uint32_t>(length);
  ByteWriter(out).message(reply);
}

// Starts an NBD_REP_INFO whose payload of `length` bytes the caller appends.
ByteWriter start_information(std::vector<std::byte>& out, Option option, Information information,
                             std::size_t length) {
  append_header(out, option, OptionReply::info, sizeof(std::uint16_t) + length);
  ByteWriter writer(out);
  writer.u16(static_cast<std::uint16_t>(information));
  return writer;
}

}  // namespace

std::optional<InfoOption> parse_info_option(std::span<const std::byte> payload) {
  ByteReader in(payload);
  InfoOption option;
  option.export_name = in.text(in.u32());
  for (auto count = in.u16(); count > 0 && in.ok(); --count) {
    switch (static_cast<Information>(in.u16())) {
      case Information::name:
        option.name_requested = true;
        break;
      case Information::description:
        option.description_requested = true;
        break;
      case Information::block_size:
        option.block_size_requested = true;
        break;
      default:  // EXPORT is always sent; what is unknown must be ignored
        break;
    }
  }
  if (!in.at_end() || !valid_string(option.export_name)) return std::nullopt;
  return option;
}

std::optional<MetaContextOption> parse_meta_context_option(std::span<const std::byte> payload) {
  ByteReader in(payload);
  MetaContextOption option;
  option.export_name = in.text(in.u32());
  // The count is not to be trusted: the loop ends, and memory with it, where the data does.
  for (auto count = in.u32(); count > 0 && in.ok(); --count) {
    const auto query = in.text(in.u32());
    if (!valid_string(query)) return std::nullopt;
    option.queries.push_back(query);
  }
  if (!in.at_end() || !valid_string(option.export_name)) return std::nullopt;
  return option;
}

std::optional<std::string_view> parse_export_name(std::span<const std::byte> payload) noexcept {
  const auto name = ByteReader(payload).text(payload.size());
  if (!valid_string(name)) return std::nullopt;
  return name;
}

void append_ack(std::vector<std::byte>& out, Option option) {
  append_header(out, option, OptionReply::ack, 0);
}

void append_error(std::vector<std::byte>& out, Option option, OptionReply error,
                  std::string_view text) {
  append_header(out, option, error, text.size());
  ByteWriter(out).text(text);
}

void append_server(std::vector<std::byte>& out, std::string_view name,
                   std::string_view description) {
  append_header(out, Option::list, OptionReply::server,
                sizeof(std::uint32_t) + name.size() + description.size());
  ByteWriter writer(out);
  writer.u32(static_cast<std::uint32_t>(name.size()));
  writer.text(name);
  writer.text(description);
}

void append_meta_context(std::vector<std::byte>& out, Option option, std::uint32_t context_id,
                         std::string_view name) {
  append_header(out, option, OptionReply::meta_context, sizeof context_id + name.size());
  ByteWriter writer(out);
  writer.u32(context_id);
  writer.text(name);
}

void append_export_information(std::vector<std::byte>& out, Option option, std::uint64_t size,
                               std::uint16_t transmission_flags) {
  auto writer = start_information(out, option, Information::export_info,
                                  sizeof size + sizeof transmission_flags);
  writer.u64(size);
  writer.u16(transmission_flags);
}

void append_text_information(std::vector<std::byte>& out, Option option, Information information,
                             std::string_view text) {
  start_information(out, option, information, text.size()).text(text);
}

void append_block_size_information(std::vector<std::byte>& out, Option option,
                                   std::uint32_t minimum, std::uint32_t preferred,
                                   std::uint32_t payload_length_max) {
  auto writer = start_information(out, option, Information::block_size, 3 * sizeof minimum);
  writer.u32(minimum);
  writer.u32(preferred);
  writer.u32(payload_length_max);
}

void append_export_name_answer(std::vector<std::byte>& out, std::uint64_t size,
                               std::uint16_t transmission_flags, bool zeroes) {
  ByteWriter writer(out);
  writer.u64(size);
  writer.u16(transmission_flags);
  if (zeroes) writer.zeroes(reserved_zeroes);
}

}  // namespace proto
