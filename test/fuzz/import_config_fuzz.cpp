// A configuration of nbd-server: what it is translated to can be read.
#include <string_view>

#include "server/base/user_error.h"
#include "server/config/import_config.h"
#include "server/config/key_file.h"
#include "server/config/read_config.h"
#include "test/fuzz/text_file.h"

namespace {

// As the operator would, with the file that was made of it.
void read_translation(const std::string& toml) {
  static auto translation = fuzz::TextFile();
  const auto* const bytes = reinterpret_cast<const std::uint8_t*>(toml.data());
  translation.write(bytes, toml.size());
  try {
    server::read_config(translation.path());
  } catch (const std::runtime_error& refusal) {
    std::fprintf(stderr, "%s\n%s\n", toml.c_str(), refusal.what());
    fuzz::require(false, "a translation is a configuration");
  }
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* bytes, std::size_t size) {
  static auto file = fuzz::TextFile();
  const auto text = std::string_view(reinterpret_cast<const char*>(bytes), size);
  // It would read files of this machine.
  if (text.find("includedir") != std::string_view::npos) return 0;
  file.write(bytes, size);
  try {
    const auto imported = server::import_config(file.path());
    read_translation(imported.toml);
  } catch (const std::runtime_error& refusal) {
    fuzz::require(*refusal.what() != '\0', "a refusal says why");
  }
  return 0;
}
