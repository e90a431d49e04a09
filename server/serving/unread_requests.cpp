#include "server/serving/unread_requests.h"

#include <algorithm>
#include <array>

namespace server {

bool may_change(std::span<const std::byte> unread, const proto::RequestRules& rules) noexcept {
  const auto header_size = proto::request_size(rules.header_style);
  while (unread.size() >= header_size) {
    const auto header = proto::decode_request(unread.first(header_size), rules.header_style);
    if (!header) return false;  // the connection ends there
    const auto verdict = proto::validate(*header, rules);
    if (verdict.disconnect || header->command == proto::Command::disconnect) return false;
    if (changes(header->command) && verdict.error == proto::Error::none) return true;
    const auto length = header_size + verdict.payload_length;
    unread =
        unread.subspan(static_cast<std::size_t>(std::min<std::uint64_t>(length, unread.size())));
  }
  return false;
}

bool may_change(std::span<const std::byte> received, Transport& transport,
                const proto::RequestRules& rules) noexcept {
  auto unread = std::array<std::byte, 16384>();
  if (received.size() >= unread.size()) return true;
  std::ranges::copy(received, unread.begin());
  const auto room = std::span(unread).subspan(received.size());
  const auto peeked = transport.peek_input(room);
  if (!peeked || *peeked == room.size()) return true;
  return may_change(std::span(unread).first(received.size() + *peeked), rules);
}

}  // namespace server
