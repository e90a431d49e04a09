// The data of options and of their replies: parses the data of an option that has any, appends
// replies to an output. Pure functions; parsed names point into the data they were parsed from.
// Spec: "Option types", "Option reply types".
#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>
#include <string_view>
#include <vector>

#include "proto/constants.h"

namespace proto {

// NBD_OPT_INFO and NBD_OPT_GO. Of the information requests only what this server can answer counts;
// EXPORT is always answered.
struct InfoOption {
  std::string_view export_name;
  bool name_requested = false;
  bool description_requested = false;
  bool block_size_requested = false;
};

// NBD_OPT_LIST_META_CONTEXT and NBD_OPT_SET_META_CONTEXT.
struct MetaContextOption {
  std::string_view export_name;
  std::vector<std::string_view> queries;
};

// Nothing when the data is too short or too long for what it announces, or when a string in it is
// not valid_string().
std::optional<InfoOption> parse_info_option(std::span<const std::byte> payload);
std::optional<MetaContextOption> parse_meta_context_option(std::span<const std::byte> payload);
// NBD_OPT_EXPORT_NAME: the data is the name.
std::optional<std::string_view> parse_export_name(std::span<const std::byte> payload) noexcept;

// The replies. `option` is the option that is being answered.
void append_ack(std::vector<std::byte>& out, Option option);
// The text is for people and at most string_length_max bytes.
void append_error(std::vector<std::byte>& out, Option option, OptionReply error,
                  std::string_view text);
// NBD_REP_SERVER, the answer to LIST.
void append_server(std::vector<std::byte>& out, std::string_view name,
                   std::string_view description);
// NBD_REP_META_CONTEXT.
void append_meta_context(std::vector<std::byte>& out, Option option, std::uint32_t context_id,
                         std::string_view name);

// NBD_REP_INFO.
void append_export_information(std::vector<std::byte>& out, Option option, std::uint64_t size,
                               std::uint16_t transmission_flags);
// `information` is name or description.
void append_text_information(std::vector<std::byte>& out, Option option, Information information,
                             std::string_view text);
void append_block_size_information(std::vector<std::byte>& out, Option option,
                                   std::uint32_t minimum, std::uint32_t preferred,
                                   std::uint32_t payload_length_max);

// The answer to EXPORT_NAME, which is no option reply.
void append_export_name_answer(std::vector<std::byte>& out, std::uint64_t size,
                               std::uint16_t transmission_flags, bool zeroes);

}  // namespace proto
