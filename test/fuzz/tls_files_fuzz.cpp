// Certificates, their authority and keys as files: credentials, or a reason.
#include "server/base/user_error.h"
#include "server/net/tls_credentials.h"
#include "test/fuzz/text_file.h"

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* bytes, std::size_t size) {
  static auto file = fuzz::TextFile();
  file.write(bytes, size);
  auto as_authority = server::TlsConfig();
  as_authority.mode = proto::TlsMode::require;
  auto as_certificate = as_authority;
  as_certificate.certificate = file.path();
  as_authority.client_ca = file.path();
  as_authority.certificate = file.path();
  for (const auto& config : {as_certificate, as_authority}) {
    try {
      const server::TlsCredentials credentials(config);
    } catch (const server::UserError& refusal) {
      fuzz::require(*refusal.what() != '\0', "a refusal says why");
    }
  }
  return 0;
}
