// A configuration file: whatever it holds, it is read or refused with a message that says where.
#include <exception>

#include "server/base/user_error.h"
#include "server/config/read_config.h"
#include "server/config/validate.h"
#include "test/fuzz/text_file.h"

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* bytes, std::size_t size) {
  static auto file = fuzz::TextFile();
  file.write(bytes, size);
  try {
    server::validate(server::read_config(file.path()));
  } catch (const server::UserError& refusal) {
    fuzz::require(*refusal.what() != '\0', "a refusal says why");
  }
  return 0;
}
