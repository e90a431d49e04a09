#include "server/policy/network.h"

#include <arpa/inet.h>
#include <fmt/format.h>

#include <array>
#include <charconv>
#include <cstdint>
#include <optional>
#include <stdexcept>

namespace server {
namespace {

unsigned length_max(const IpAddress& address) noexcept { return address.is_ip4 ? 32U : 128U; }

unsigned mask_of(unsigned index) noexcept { return 0x80U >> (index % 8); }

bool bit_at(const IpAddress& address, unsigned index) noexcept {
  return (address.bytes[index / 8] & mask_of(index)) != 0;
}

std::optional<unsigned> parse_length(std::string_view text) noexcept {
  auto length = 0U;
  const auto* const end = text.data() + text.size();
  const auto [rest, failure] = std::from_chars(text.data(), end, length);
  if (failure != std::errc{} || rest != end) return std::nullopt;
  return length;
}

}  // namespace

Network parse_network(std::string_view text) {
  const auto slash = text.find('/');
  const auto address = parse_ip_address(std::string(text.substr(0, slash)));
  if (!address) throw std::runtime_error("is no address and no network");
  auto network = Network{.address = *address, .prefix_length = length_max(*address)};
  if (slash == std::string_view::npos) return network;
  auto length = parse_length(text.substr(slash + 1));
  // An IPv4-mapped network counts the bits of the IPv6 address that it is written as.
  const auto mapped = address->is_ip4 && text.find(':') != std::string_view::npos;
  if (mapped && length && *length >= 96)
    *length -= 96;
  else if (mapped)
    length.reset();
  if (!length || *length > network.prefix_length)
    throw std::runtime_error("has an impossible prefix length");
  network.prefix_length = *length;
  return network;
}

Network without_host_bits(Network network) noexcept {
  for (auto index = network.prefix_length; index < length_max(network.address); ++index) {
    auto& byte = network.address.bytes[index / 8];
    byte = static_cast<std::uint8_t>(byte & ~mask_of(index));
  }
  return network;
}

bool contains(const Network& network, const IpAddress& address) noexcept {
  if (address.is_ip4 != network.address.is_ip4) return false;
  for (auto index = 0U; index < network.prefix_length; ++index)
    if (bit_at(address, index) != bit_at(network.address, index)) return false;
  return true;
}

std::string format_network(const Network& network) {
  auto text = std::array<char, INET6_ADDRSTRLEN>{};
  const auto family = network.address.is_ip4 ? AF_INET : AF_INET6;
  ::inet_ntop(family, network.address.bytes.data(), text.data(), text.size());
  if (network.prefix_length == length_max(network.address)) return text.data();
  return fmt::format("{}/{}", text.data(), network.prefix_length);
}

}  // namespace server
