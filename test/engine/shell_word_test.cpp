#include "engine/shell_word.h"

#include <catch2/catch.hpp>
#include <cstdio>
#include <memory>

using engine::shell_path;
using engine::shell_word;

namespace {

// The text that bash makes of a word.
std::string echoed(const std::string& word) {
  const auto command = "printf %s " + shell_word("printf %s " + word) + " | bash";
  const auto pipe = std::unique_ptr<FILE, int (*)(FILE*)>(::popen(command.c_str(), "r"), ::pclose);
  auto text = std::string{};
  for (auto letter = std::fgetc(pipe.get()); letter != EOF; letter = std::fgetc(pipe.get()))
    text += static_cast<char>(letter);
  return text;
}

}  // namespace

TEST_CASE("a shell takes a word for what it was made of") {
  for (const auto* const text :
       {"disk.img", "", "two words", "it's", "\"quoted\"", "$HOME `id` $(id)", "50%25", "what?*",
        "a\nb\tc'\\n", "\xc3\xbcml\xc3\xa4ut", "#hash;&|<>", "-x", "~", "\\", "\x1b[31m"}) {
    CAPTURE(text);
    CHECK(echoed(shell_word(text)) == text);
  }
  CHECK(shell_word("/opt/ltsp/i386") == "/opt/ltsp/i386");
}

TEST_CASE("no program takes a path for an option") {
  CHECK(shell_path("-n") == "./-n");
  CHECK(shell_path("/srv/-n") == "/srv/-n");
  CHECK(shell_path("- n") == "'./- n'");
}
