#include "server/config/validate.h"

#include <fmt/format.h>

#include <set>
#include <variant>
#include <vector>

#include "proto/constants.h"
#include "proto/text.h"
#include "server/base/user_error.h"
#include "server/config/bounds.h"

namespace server {
namespace {

// A protocol string (proto.md, "Conventions").
void check_text(std::string_view what, std::string_view text) {
  if (!proto::valid_string(text))
    throw UserError(fmt::format("{} is at most {} bytes of UTF-8 without zero bytes", what,
                                proto::string_length_max));
}

// A rule that no client can ever meet is a mistake, and with read_only_for a dangerous one.
void check_patterns(const ExportConfig& entry, std::string_view key,
                    const std::vector<ClientPattern>& patterns, const TlsConfig& tls) {
  const auto without_tls = tls.mode == proto::TlsMode::off;
  for (const auto& pattern : patterns) {
    if (std::holds_alternative<CertificatePattern>(pattern) &&
        (without_tls || tls.client_ca.empty()))
      throw UserError(entry.at_place(
          key,
          fmt::format("export \"{}\": clients show certificates only where TLS has a client_ca "
                      "that says whom to believe (tls.client_ca or --tls-client-ca)",
                      entry.name)));
    if (std::holds_alternative<PskPattern>(pattern) && (without_tls || tls.psk_file.empty()))
      throw UserError(entry.at_place(
          key,
          fmt::format("export \"{}\": users have pre-shared keys only where TLS has a psk_file "
                      "(tls.psk_file or --tls-psk-file)",
                      entry.name)));
  }
}

void check_tls(const TlsConfig& tls) {
  if (tls.certificate.empty() && !tls.key.empty())
    throw UserError(
        tls.at_place("key",
                     "the key belongs to a certificate: name that as well (tls.certificate or "
                     "--tls-certificate)"));
  if (tls.certificate.empty() && !tls.client_ca.empty())
    throw UserError(tls.at_place("client_ca",
                                 "clients show certificates only to a server that has one: name it "
                                 "(tls.certificate or --tls-certificate)"));
  if (tls.mode != proto::TlsMode::off && tls.certificate.empty() && tls.psk_file.empty())
    throw UserError(tls.at_place(
        "mode",
        "TLS needs a certificate and its key (tls.certificate, tls.key), or pre-shared keys "
        "(tls.psk_file); on the command line, --tls-certificate and --tls-key, or "
        "--tls-psk-file"));
}

}  // namespace

void check_export_name(std::string_view name) {
  if (name.empty()) throw UserError("an export needs a name that is not empty");
  check_text("an export's name", name);
}

void check_description(std::string_view text) { check_text("a description", text); }

void check_export(const ExportConfig& entry, const TlsConfig& tls) {
  check_export_name(entry.name);
  check_description(entry.description);
  if (!entry.partition.empty() && (entry.offset != 0 || entry.size))
    throw UserError(entry.at_place(
        "partition",
        fmt::format("export \"{}\": a partition has its own offset and size: leave out either "
                    "the partition, or the offset and the size",
                    entry.name)));
  check_patterns(entry, "allow", entry.access.allow, tls);
  check_patterns(entry, "read_only_for", entry.access.read_only_for, tls);
  if (entry.tls_required && tls.mode == proto::TlsMode::off)
    throw UserError(entry.at_place(
        "tls", fmt::format("export \"{}\" requires TLS, and TLS is off: write a [tls] table with "
                           "a certificate or pre-shared keys",
                           entry.name)));
}

void check_exports(std::span<const ExportConfig> list, const TlsConfig& tls) {
  if (list.empty())
    throw UserError(
        "nothing to serve: name a file (loopnbd serve disk.img) or write an [[export]] into the "
        "configuration");
  auto names = std::set<std::string_view>{};
  for (const auto& entry : list) {
    check_export(entry, tls);
    if (!names.insert(entry.name).second)
      throw UserError(entry.at_place(
          entry.places.by_key.contains("name") ? "name" : "path",
          fmt::format("two exports are called \"{}\" (the second is {}): give one of them another "
                      "name (NAME=FILE, or name = …)",
                      entry.name, entry.path)));
  }
}

void check_process(const Config& config) {
  if (config.stdio && !config.listen.empty())
    throw UserError(
        "--stdio serves one client on standard input and output: leave the listen addresses out");
  check_tls(config.tls);
  try {
    derive_bounds(config);
  } catch (const UserError& error) {
    throw UserError(config.places.at_place("memory", error.what()));
  }
}

void validate(const Config& config) {
  check_process(config);
  check_exports(config.exports, config.tls);
}

}  // namespace server
