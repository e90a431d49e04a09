#include "server/config/security_config.h"

#include <fmt/format.h>

#include <optional>

namespace server {
namespace {

TlsConfig read_tls(const toml::table& table, const std::string& path) {
  auto reader = TableReader(table, path, "tls.");
  auto config = TlsConfig{};
  const auto take_path = [&](std::string_view key) {
    const auto value = reader.take_value<std::string>(key, "the path of a file");
    if (value && value->empty()) reader.fail(*table.get(key), key, "expected the path of a file");
    return value.value_or("");
  };
  const auto mode = reader.take_value<std::string>("mode", "\"off\", \"allow\" or \"require\"");
  config.certificate = take_path("certificate");
  config.key = take_path("key");
  config.client_ca = take_path("client_ca");
  config.psk_file = take_path("psk_file");
  // Who gives the server a key and no mode wants it to be used.
  config.mode = proto::TlsMode::require;
  if (mode)
    config.mode = reader.checked(*table.get("mode"), "mode", [&] { return parse_tls_mode(*mode); });
  for (const auto& [key, node] : table)
    config.places.by_key.emplace(key.str(), reader.place(node, key.str()));
  reader.finish("mode, certificate, key, client_ca, psk_file");
  return config;
}

std::vector<ClientPattern> read_patterns(TableReader& reader, std::string_view key) {
  constexpr std::string_view expected =
      "expected a list of clients such as [\"10.0.0.0/8\", \"uid:1000\"]";
  auto patterns = std::vector<ClientPattern>{};
  const auto* const node = reader.take(key);
  if (node == nullptr) return patterns;
  const auto* const array = node->as_array();
  if (array == nullptr) reader.fail(*node, key, expected);
  // An empty list would mean "nobody" to one reader and "everybody" to another.
  if (array->empty())
    reader.fail(*node, key, "an empty list names nobody: leave the key out for no rule at all");
  for (const auto& element : *array) {
    const auto text = element.value_exact<std::string>();
    if (!text) reader.fail(element, key, expected);
    patterns.push_back(reader.checked(element, key, [&] { return parse_client_pattern(*text); }));
  }
  return patterns;
}

}  // namespace

proto::TlsMode parse_tls_mode(std::string_view text) {
  if (text == "off") return proto::TlsMode::off;
  if (text == "allow") return proto::TlsMode::allow;
  if (text == "require") return proto::TlsMode::require;
  throw UserError(fmt::format("\"{}\" is not one of off, allow, require", text));
}

void read_security(TableReader& reader, const std::string& path, Config& config) {
  config.user = reader.take_value<std::string>("user", "the name of a user").value_or("");
  config.sandbox = reader.take_value<bool>("sandbox", "true or false").value_or(true);
  const auto* const node = reader.take("tls");
  if (node == nullptr) return;
  const auto* const table = node->as_table();
  if (table == nullptr) reader.fail(*node, "tls", "write [tls] and its keys below it");
  config.tls = read_tls(*table, path);
}

void read_export_security(TableReader& reader, const toml::table& table, ExportConfig& config) {
  config.access.allow = read_patterns(reader, "allow");
  config.access.read_only_for = read_patterns(reader, "read_only_for");
  config.writers_max = reader.take_count("writers", writers_max).value_or(0);
  const auto tls = reader.take_value<std::string>("tls", "\"allow\" or \"require\"");
  if (!tls) return;
  if (*tls != "allow" && *tls != "require")
    reader.fail(
        *table.get("tls"), "tls",
        fmt::format("\"{}\" is not one of allow, require: tls.mode is for all exports", *tls));
  config.tls_required = *tls == "require";
}

std::string describe(const TlsConfig& tls) {
  auto text = std::string{};
  if (!tls.certificate.empty()) text = fmt::format("certificate {}", tls.certificate);
  if (!tls.client_ca.empty()) text += fmt::format(", clients need one signed by {}", tls.client_ca);
  if (!tls.psk_file.empty())
    text += fmt::format("{}pre-shared keys {}", text.empty() ? "" : ", ", tls.psk_file);
  return text;
}

}  // namespace server
