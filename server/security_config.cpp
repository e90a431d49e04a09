#include "server/security_config.h"

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

void validate_tls(const TlsConfig& tls) {
  if (tls.certificate.empty() && !tls.key.empty())
    throw ConfigError(
        tls.at_place("key",
                     "the key belongs to a certificate: name that as well (tls.certificate or "
                     "--tls-certificate)"));
  if (tls.certificate.empty() && !tls.client_ca.empty())
    throw ConfigError(
        tls.at_place("client_ca",
                     "clients show certificates only to a server that has one: name it "
                     "(tls.certificate or --tls-certificate)"));
  if (tls.mode != proto::TlsMode::off && tls.certificate.empty() && tls.psk_file.empty())
    throw ConfigError(tls.at_place(
        "mode",
        "TLS needs a certificate and its key (tls.certificate, tls.key), or pre-shared keys "
        "(tls.psk_file); on the command line, --tls-certificate and --tls-key, or "
        "--tls-psk-file"));
}

}  // namespace

proto::TlsMode parse_tls_mode(std::string_view text) {
  if (text == "off") return proto::TlsMode::off;
  if (text == "allow") return proto::TlsMode::allow;
  if (text == "require") return proto::TlsMode::require;
  throw ConfigError(fmt::format("\"{}\" is not one of off, allow, require", text));
}

void read_security(TableReader& reader, const std::string& path, Config& config) {
  const auto* const node = reader.take("tls");
  if (node == nullptr) return;
  const auto* const table = node->as_table();
  if (table == nullptr) reader.fail(*node, "tls", "write [tls] and its keys below it");
  config.tls = read_tls(*table, path);
}

void read_export_security(TableReader& reader, const toml::table& table, ExportConfig& config) {
  const auto tls = reader.take_value<std::string>("tls", "\"allow\" or \"require\"");
  if (!tls) return;
  if (*tls != "allow" && *tls != "require")
    reader.fail(
        *table.get("tls"), "tls",
        fmt::format("\"{}\" is not one of allow, require: tls.mode is for all exports", *tls));
  config.tls_required = *tls == "require";
}

void validate_security(const Config& config) {
  validate_tls(config.tls);
  for (const auto& entry : config.exports)
    if (entry.tls_required && config.tls.mode == proto::TlsMode::off)
      throw ConfigError(entry.at_place(
          "tls", fmt::format("export \"{}\" requires TLS, and TLS is off: write a [tls] table with "
                             "a certificate or pre-shared keys",
                             entry.name)));
}

}  // namespace server
