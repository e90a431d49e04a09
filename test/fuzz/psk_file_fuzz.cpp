// A file of pre-shared keys: no user without a key, no key without a user.
#include "server/base/user_error.h"
#include "server/net/tls_credentials.h"
#include "test/fuzz/text_file.h"

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* bytes, std::size_t size) {
  static auto file = fuzz::TextFile();
  file.write(bytes, size);
  try {
    for (const auto& [user, key] : server::read_keys(file.path()))
      fuzz::require(!user.empty() && !key.empty(), "a key belongs to a user");
  } catch (const server::UserError& refusal) {
    fuzz::require(*refusal.what() != '\0', "a refusal says why");
  }
  return 0;
}
