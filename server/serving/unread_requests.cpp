#include "server/serving/unread_requests.h"

#include <algorithm>

namespace server {

bool may_change(std::span<const std::byte> unread, const proto::RequestRules& rules) noexcept {
  using enum proto::Command;
  const auto header_size = proto::request_size(rules.header_style);
  while (unread.size() >= header_size) {
    const auto header = proto::decode_request(unread.first(header_size), rules.header_style);
    if (!header) return false;  // the connection ends there
    const auto verdict = proto::validate(*header, rules);
    if (verdict.disconnect || header->command == disconnect) return false;
    const auto changes =
        header->command == write || header->command == trim || header->command == write_zeroes;
    if (changes && verdict.error == proto::Error::none) return true;
    const auto length = header_size + verdict.payload_length;
    unread =
        unread.subspan(static_cast<std::size_t>(std::min<std::uint64_t>(length, unread.size())));
  }
  return false;
}

}  // namespace server
