// The address of another server, as an operator writes it: the canonical way to write it leads to
// the same.
#include "server/attach/remote_address.h"
#include "server/base/user_error.h"
#include "test/fuzz/fuzz.h"

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* bytes, std::size_t size) {
  const auto text = std::string_view(reinterpret_cast<const char*>(bytes), size);
  try {
    const auto address = server::parse_remote_address(text);
    if (!address) return 0;
    fuzz::require(address->host.empty() != address->socket_path.empty(), "it is TCP or a socket");
    const auto again = server::parse_remote_address(address->canonical());
    fuzz::require(again && again->canonical() == address->canonical() &&
                      again->export_name == address->export_name &&
                      again->socket_path == address->socket_path,
                  "the canonical way to write it leads to the same");
  } catch (const server::UserError& refusal) {
    fuzz::require(*refusal.what() != '\0', "a refusal says why");
  }
  return 0;
}
