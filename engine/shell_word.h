// Words of commands that people paste into a shell. Pure functions; any thread.
#pragma once

#include <string>
#include <string_view>

namespace engine {

// `text` as one word of a shell's command line: as it is where nothing in it means anything to a
// shell, else in single quotes, and with control characters in the form $'…' of bash, ksh and zsh.
std::string shell_word(std::string_view text);

// The same of a path, which no program takes for an option.
std::string shell_path(std::string_view path);

}  // namespace engine
