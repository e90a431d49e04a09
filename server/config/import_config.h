// Translates the configuration of nbd-server into ours: `loopnbd import-config`.
#pragma once

#include <string>
#include <vector>

namespace server {

struct ImportedConfig {
  std::string toml;                // with the notes as comments at their places
  std::vector<std::string> notes;  // what has no equivalent, with file and line
};

// Reads nbd-server(5)'s configuration and the files it includes. No export becomes accessible to
// more clients, or writable where it was not, by the translation: what cannot be expressed is left
// out, with a note. Throws UserError for what nbd-server would not accept either.
ImportedConfig import_config(const std::string& path);

}  // namespace server
