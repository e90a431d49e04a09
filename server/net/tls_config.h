// The settings of TLS as the operator wrote them: how the server proves itself, and what it asks of
// clients. A value.
#pragma once

#include <string>
#include <string_view>

#include "proto/negotiation.h"
#include "server/base/places.h"

namespace server {

struct TlsConfig {
  proto::TlsMode mode = proto::TlsMode::off;
  // Paths; empty: not used.
  std::string certificate;
  std::string key;        // of the certificate; empty: it is in the same file
  std::string client_ca;  // clients must show a certificate that it has signed
  std::string psk_file;
  Places places;

  std::string at_place(std::string_view key_name, std::string_view message) const {
    return places.at_place(key_name, message);
  }
};

// The files in use, for the log.
std::string describe(const TlsConfig& tls);

}  // namespace server
