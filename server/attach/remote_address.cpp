#include "server/attach/remote_address.h"

#include <fmt/format.h>

#include <algorithm>
#include <cctype>
#include <charconv>
#include <cstdint>
#include <utility>

#include "proto/text.h"
#include "server/base/user_error.h"

namespace server {
namespace {

constexpr std::string_view tcp_scheme = "nbd";
constexpr std::string_view unix_scheme = "nbd+unix";
constexpr std::string_view default_port = "10809";  // assigned by IANA

[[noreturn]] void refuse(std::string_view text, std::string_view reason) {
  throw UserError(fmt::format(
      "\"{}\": {}; expected nbd://HOST[:PORT]/NAME or nbd+unix:///NAME?socket=PATH", text, reason));
}

// Splits at the first `separator`, which is in neither part.
std::pair<std::string_view, std::string_view> split(std::string_view text, char separator) {
  const auto place = text.find(separator);
  if (place == std::string_view::npos) return {text, {}};
  return {text.substr(0, place), text.substr(place + 1)};
}

// RFC 3986, 2.1. Nothing: malformed.
std::optional<std::string> decode_percent(std::string_view text) {
  auto decoded = std::string();
  while (!text.empty()) {
    if (text.front() != '%') {
      decoded += text.front();
      text.remove_prefix(1);
      continue;
    }
    auto value = std::uint8_t{0};
    if (text.size() < 3) return std::nullopt;
    const auto digits = text.substr(1, 2);
    const auto [end, failure] =
        std::from_chars(digits.data(), digits.data() + digits.size(), value, 16);
    if (failure != std::errc{} || end != digits.data() + digits.size()) return std::nullopt;
    decoded += static_cast<char>(value);
    text.remove_prefix(3);
  }
  return decoded;
}

std::string encode_percent(std::string_view text) {
  constexpr std::string_view plain = "-._~/:";
  auto encoded = std::string();
  for (const auto letter : text) {
    const auto code = static_cast<unsigned char>(letter);
    if (std::isalnum(code) != 0 || plain.find(letter) != std::string_view::npos) {
      encoded += letter;
    } else {
      encoded += fmt::format("%{:02X}", code);
    }
  }
  return encoded;
}

std::string decoded_name(std::string_view whole, std::string_view path) {
  if (path.starts_with('/')) path.remove_prefix(1);
  auto name = decode_percent(path);
  if (!name) refuse(whole, "a % is not followed by two hexadecimal digits");
  if (!proto::valid_string(*name)) refuse(whole, "the export name is no string of the protocol");
  return *std::move(name);
}

void take_host_port(std::string_view whole, std::string_view authority, RemoteAddress& address) {
  auto rest = std::string_view();
  if (authority.starts_with('[')) {
    const auto bracket = authority.find(']');
    if (bracket == std::string_view::npos) refuse(whole, "the bracket is not closed");
    address.host = authority.substr(1, bracket - 1);
    rest = authority.substr(bracket + 1);
  } else {
    const auto colon = std::min(authority.find(':'), authority.size());
    address.host = authority.substr(0, colon);
    rest = authority.substr(colon);
  }
  if (address.host.empty()) refuse(whole, "the host is missing");
  address.port = rest.empty() ? default_port : rest.substr(1);
  auto port = std::uint16_t{0};
  const auto* const end = address.port.data() + address.port.size();
  const auto parsed = std::from_chars(address.port.data(), end, port);
  if ((!rest.empty() && rest.front() != ':') || parsed.ec != std::errc{} || parsed.ptr != end ||
      port == 0)
    refuse(whole, "the port is no number from 1 to 65535");
}

void take_socket(std::string_view whole, std::string_view query, RemoteAddress& address) {
  while (!query.empty()) {
    const auto [parameter, others] = split(query, '&');
    const auto [key, value] = split(parameter, '=');
    query = others;
    if (key != "socket") refuse(whole, fmt::format("unknown parameter \"{}\"", key));
    const auto path = decode_percent(value);
    if (!path) refuse(whole, "a % is not followed by two hexadecimal digits");
    address.socket_path = *path;
  }
  if (address.socket_path.empty()) refuse(whole, "the socket is missing");
}

}  // namespace

std::string RemoteAddress::canonical() const {
  if (!socket_path.empty())
    return fmt::format("nbd+unix:///{}?socket={}", encode_percent(export_name),
                       encode_percent(socket_path));
  const auto ip6 = host.find(':') != std::string::npos;
  return fmt::format("nbd://{}{}{}:{}/{}", ip6 ? "[" : "", host, ip6 ? "]" : "", port,
                     encode_percent(export_name));
}

std::optional<RemoteAddress> parse_remote_address(std::string_view text) {
  const auto colon = text.find("://");
  if (colon == std::string_view::npos) return std::nullopt;
  const auto scheme = text.substr(0, colon);
  if (!std::ranges::all_of(scheme, [](unsigned char letter) {
        return std::isalnum(letter) != 0 || letter == '+' || letter == '-' || letter == '.';
      }))
    return std::nullopt;
  if (scheme == "nbds" || scheme == "nbds+unix")
    refuse(text, "the kernel's client does not speak TLS");
  if (scheme != tcp_scheme && scheme != unix_scheme) refuse(text, "unknown scheme");
  const auto [hierarchy, query] = split(text.substr(colon + 3), '?');
  const auto slash = std::min(hierarchy.find('/'), hierarchy.size());
  const auto authority = hierarchy.substr(0, slash);
  auto address = RemoteAddress{};
  address.export_name = decoded_name(text, hierarchy.substr(slash));
  if (scheme == unix_scheme) {
    if (!authority.empty()) refuse(text, "a Unix socket has no host");
    take_socket(text, query, address);
  } else {
    if (!query.empty()) refuse(text, "a TCP address has no parameters");
    take_host_port(text, authority, address);
  }
  return address;
}

}  // namespace server
