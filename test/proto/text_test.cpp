#include "proto/text.h"

#include <catch2/catch.hpp>
#include <string>
#include <string_view>

using namespace std::string_literals;
using proto::quoted;
using proto::valid_string;

TEST_CASE("UTF-8 of every length is a string") {
  for (const auto& text : {""s, "disk"s, "caf\xc3\xa9"s, "\xe2\x82\xac"s, "\xf0\x9f\x92\xbe"s,
                           "\xc2\x80"s, "\xe0\xa0\x80"s, "\xed\x9f\xbf"s, "\xee\x80\x80"s,
                           "\xf0\x90\x80\x80"s, "\xf4\x8f\xbf\xbf"s, "a\tb\n"s}) {
    CAPTURE(text);
    CHECK(valid_string(text));
  }
}

TEST_CASE("what is not UTF-8, or has a NUL in it, is no string") {
  const std::string cases[] = {
      "\0"s,
      "disk\0"s,
      "a\0b"s,  // NUL
      "\x80"s,
      "\xbf"s,
      "a\xa9"s,
      "\xa2\x80"s,  // continuation without a lead
      "\xc3"s,
      "\xe2\x82"s,
      "\xf0\x9f\x92"s,  // cut short
      "\xc3z"s,
      "\xe2\x82z"s,
      "\xf0\x9f\x92z"s,  // continuation missing
      "\xc0\x80"s,
      "\xc1\xbf"s,
      "\xe0\x9f\xbf"s,      // overlong
      "\xf0\x8f\xbf\xbf"s,  // overlong
      "\xed\xa0\x80"s,
      "\xed\xbf\xbf"s,  // surrogates
      "\xf4\x90\x80\x80"s,
      "\xf5\x80\x80\x80"s,
      "\xff"s,  // beyond U+10FFFF
  };
  for (const auto& text : cases) {
    CAPTURE(text);
    CHECK_FALSE(valid_string(text));
    CHECK_FALSE(valid_string("prefix" + text));
  }
}

TEST_CASE("a string ends at 4096 bytes") {
  CHECK(valid_string(std::string(4096, 'x')));
  CHECK_FALSE(valid_string(std::string(4097, 'x')));
}

TEST_CASE("a text is made printable up to the length that is kept of it") {
  CHECK(proto::printable("", 0) == "");
  CHECK(proto::printable("disk", 0) == "...");
  CHECK(proto::printable("disk", 3) == "dis...");
  CHECK(proto::printable("disk", 4) == "disk");
  CHECK(proto::printable("a\x1b\xc2\x9b\xff", 100) == "a???");
}

TEST_CASE("what a client sent is quoted so that a terminal cannot obey it") {
  CHECK(quoted("") == "\"\"");
  CHECK(quoted("caf\xc3\xa9") == "\"caf\xc3\xa9\"");
  CHECK(quoted("a\x1b[2Jb\r\n\x7f\0c"s) == "\"a?[2Jb????c\"");
  CHECK(quoted("a\xc2\x9b"
               "2J") == "\"a?2J\"");  // U+009B, a control sequence introducer
  CHECK(quoted("a\xff\xc3") == "\"a??\"");
}

TEST_CASE("a long quoted text is cut between characters, and says so") {
  CHECK(quoted(std::string(256, 'x')) == "\"" + std::string(256, 'x') + "\"");
  CHECK(quoted(std::string(257, 'x')) == "\"" + std::string(256, 'x') + "...\"");
  // The two bytes of the last character would be the 256th and the 257th.
  CHECK(quoted(std::string(255, 'x') + "\xc3\xa9") == "\"" + std::string(255, 'x') + "...\"");
}

TEST_CASE("quoted text is always a string, and short") {
  for (int seed = 0; seed < 256; ++seed) {
    std::string text;
    for (int i = 0; i < 600; ++i) text += static_cast<char>((seed * 31 + i * i * 7 + i) & 0xff);
    CAPTURE(seed);
    CHECK(valid_string(quoted(text)));
    CHECK(quoted(text).size() <= proto::quoted_length_max + 5);
  }
}
