#include "test/bench/address.h"

#include <charconv>
#include <stdexcept>

#include <fmt/format.h>

namespace bench {
namespace {

std::string percent_decoded(std::string_view text) {
  std::string decoded;
  for (std::size_t i = 0; i < text.size(); ++i) {
    unsigned value = 0;
    if (text[i] == '%') {
      const auto digits = text.substr(i + 1, 2);
      const auto [end, error] =
          std::from_chars(digits.data(), digits.data() + digits.size(), value, 16);
      if (error != std::errc{} || end != digits.data() + 2) {
        throw std::invalid_argument(
            fmt::format("'{}': % is not followed by two hexadecimal digits", text));
      }
      decoded.push_back(static_cast<char>(value));
      i += 2;
    } else {
      decoded.push_back(text[i]);
    }
  }
  return decoded;
}

void set_host_and_port(Address& address, std::string_view text) {
  std::string_view port;
  if (text.starts_with('[')) {
    const auto end = text.find(']');
    if (end == std::string_view::npos)
      throw std::invalid_argument(fmt::format("'{}': ']' is missing", text));
    address.host = text.substr(1, end - 1);
    port = text.substr(end + 1);
  } else {
    const auto colon = text.rfind(':');
    address.host = text.substr(0, colon);
    if (colon != std::string_view::npos) port = text.substr(colon);
  }
  address.port = port.empty() ? "10809" : port.substr(1);
  if (address.host.empty() || address.port.empty() || (!port.empty() && port.front() != ':')) {
    throw std::invalid_argument(fmt::format("'{}' is not HOST:PORT", text));
  }
}

}  // namespace

Address parse_address(std::string_view text) {
  static constexpr std::string_view unix_prefix = "unix:";
  static constexpr std::string_view tcp_scheme = "nbd://";
  static constexpr std::string_view unix_scheme = "nbd+unix:///";
  static constexpr std::string_view socket_key = "?socket=";
  Address address;
  if (text.starts_with(unix_prefix)) {
    address.socket_path = text.substr(unix_prefix.size());
  } else if (text.starts_with(unix_scheme)) {
    const auto rest = text.substr(unix_scheme.size());
    const auto key = rest.find(socket_key);
    if (key != std::string_view::npos) {
      address.socket_path = percent_decoded(rest.substr(key + socket_key.size()));
      address.export_name = percent_decoded(rest.substr(0, key));
    }
  } else if (text.starts_with(tcp_scheme)) {
    const auto rest = text.substr(tcp_scheme.size());
    const auto slash = rest.find('/');
    set_host_and_port(address, rest.substr(0, slash));
    if (slash != std::string_view::npos)
      address.export_name = percent_decoded(rest.substr(slash + 1));
    return address;
  } else {
    set_host_and_port(address, text);
    return address;
  }
  if (address.socket_path.empty())
    throw std::invalid_argument(fmt::format("'{}' names no socket", text));
  return address;
}

}  // namespace bench
