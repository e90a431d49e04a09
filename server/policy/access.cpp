#include "server/policy/access.h"

#include <fmt/format.h>

#include <algorithm>
#include <charconv>
#include <limits>
#include <optional>
#include <stdexcept>

#include "server/policy/network.h"

namespace server {
namespace {

constexpr std::string_view forms =
    "expected a network (\"10.0.0.0/8\", \"fd00::/8\", \"192.0.2.7\"), \"cert:CN=NAME\", "
    "\"psk:USER\", \"uid:NUMBER\" or \"gid:NUMBER\"; * and ? stand for any letters in NAME and "
    "USER";

[[noreturn]] void refuse(std::string_view text, std::string_view why) {
  throw std::runtime_error(fmt::format("\"{}\" {}; {}", text, why, forms));
}

std::optional<std::uint32_t> parse_number(std::string_view text) noexcept {
  auto number = std::uint32_t{0};
  const auto* const end = text.data() + text.size();
  const auto [rest, failure] = std::from_chars(text.data(), end, number);
  if (failure != std::errc{} || rest != end) return std::nullopt;
  return number;
}

// The kernel's "no such user": as a rule it would match nobody, so it is a mistake.
std::uint32_t parse_id(std::string_view text, std::string_view digits) {
  const auto id = parse_number(digits);
  if (!id || *id == std::numeric_limits<std::uint32_t>::max())
    refuse(text, "does not name a numeric id");
  return *id;
}

CertificatePattern parse_certificate(std::string_view text, std::string_view list) {
  auto pattern = CertificatePattern{};
  while (!list.empty()) {
    const auto comma = std::min(list.find(','), list.size());
    const auto part = list.substr(0, comma);
    const auto equals = part.find('=');
    if (equals == std::string_view::npos || equals == 0 || equals + 1 == part.size())
      refuse(text, "does not say which attribute of a certificate it means");
    pattern.names.push_back({.attribute = std::string(part.substr(0, equals)),
                             .value = std::string(part.substr(equals + 1))});
    list.remove_prefix(std::min(comma + 1, list.size()));
  }
  if (pattern.names.empty()) refuse(text, "is empty");
  return pattern;
}

NetworkPattern parse_network_pattern(std::string_view text) {
  const auto network = [&] {
    try {
      return parse_network(text);
    } catch (const std::runtime_error& error) {
      refuse(text, error.what());
    }
  }();
  if (without_host_bits(network) != network)
    refuse(text, fmt::format("has address bits beyond its prefix of {}", network.prefix_length));
  return {.address = network.address, .prefix_length = network.prefix_length};
}

bool same_letters(std::string_view left, std::string_view right) noexcept {
  const auto lower = [](char letter) {
    return letter >= 'A' && letter <= 'Z' ? static_cast<char>(letter - 'A' + 'a') : letter;
  };
  return std::ranges::equal(left, right, {}, lower, lower);
}

bool match(const NetworkPattern& pattern, const ClientIdentity& client) {
  return client.address &&
         contains({.address = pattern.address, .prefix_length = pattern.prefix_length},
                  *client.address);
}

bool match(const CertificatePattern& pattern, const ClientIdentity& client) {
  return std::ranges::all_of(pattern.names, [&](const CertificateName& wanted) {
    return std::ranges::any_of(client.certificate_names, [&](const CertificateName& name) {
      return same_letters(name.attribute, wanted.attribute) &&
             matches_glob(wanted.value, name.value);
    });
  });
}

bool match(const PskPattern& pattern, const ClientIdentity& client) {
  return !client.psk_user.empty() && matches_glob(pattern.user, client.psk_user);
}

bool match(const UserPattern& pattern, const ClientIdentity& client) {
  return client.local && client.local->user == pattern.user;
}

bool match(const GroupPattern& pattern, const ClientIdentity& client) {
  return client.local && std::ranges::count(client.local->groups, pattern.group) > 0;
}

bool any_matches(const std::vector<ClientPattern>& patterns, const ClientIdentity& client) {
  return std::ranges::any_of(
      patterns, [&](const ClientPattern& pattern) { return matches(pattern, client); });
}

}  // namespace

ClientPattern parse_client_pattern(std::string_view text) {
  // An IPv6 address has colons as well, but never behind these letters.
  const auto colon = text.find(':');
  const auto kind = text.substr(0, colon == std::string_view::npos ? 0 : colon);
  const auto value = kind.empty() ? std::string_view() : text.substr(colon + 1);
  if (kind == "cert") return parse_certificate(text, value);
  if (kind == "uid") return UserPattern{.user = parse_id(text, value)};
  if (kind == "gid") return GroupPattern{.group = parse_id(text, value)};
  if (kind != "psk") return parse_network_pattern(text);
  if (value.empty()) refuse(text, "names no user");
  return PskPattern{.user = std::string(value)};
}

bool matches(const ClientPattern& pattern, const ClientIdentity& client) {
  return std::visit([&](const auto& alternative) { return match(alternative, client); }, pattern);
}

bool matches_glob(std::string_view glob, std::string_view text) noexcept {
  // Behind the last star, each mismatch lets that star stand for one byte more.
  auto star = std::string_view::npos;
  auto behind_star = std::size_t{0};
  auto in_glob = std::size_t{0};
  auto in_text = std::size_t{0};
  while (in_text < text.size()) {
    if (in_glob < glob.size() && glob[in_glob] == '*') {
      star = in_glob++;
      behind_star = in_text;
    } else if (in_glob < glob.size() && (glob[in_glob] == '?' || glob[in_glob] == text[in_text])) {
      ++in_glob;
      ++in_text;
    } else if (star != std::string_view::npos) {
      in_glob = star + 1;
      in_text = ++behind_star;
    } else {
      return false;
    }
  }
  return glob.find_first_not_of('*', in_glob) == std::string_view::npos;
}

bool AccessRules::may_use(const ClientIdentity& client) const {
  return allow.empty() || any_matches(allow, client);
}

bool AccessRules::may_write(const ClientIdentity& client) const {
  return !any_matches(read_only_for, client);
}

}  // namespace server
