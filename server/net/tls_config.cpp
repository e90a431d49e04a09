#include "server/net/tls_config.h"

#include <fmt/format.h>

namespace server {

std::string describe(const TlsConfig& tls) {
  auto text = std::string{};
  if (!tls.certificate.empty()) text = fmt::format("certificate {}", tls.certificate);
  if (!tls.client_ca.empty()) text += fmt::format(", clients need one signed by {}", tls.client_ca);
  if (!tls.psk_file.empty())
    text += fmt::format("{}pre-shared keys {}", text.empty() ? "" : ", ", tls.psk_file);
  return text;
}

}  // namespace server
