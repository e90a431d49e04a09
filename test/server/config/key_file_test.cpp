#include "server/config/key_file.h"

#include <catch2/catch.hpp>

#include "test/support/temporary_file.h"

using test::TemporaryFile;

TEST_CASE("sections, keys and comments of a key file are read") {
  const auto file = TemporaryFile(
      "# a comment\n"
      "\n"
      "[generic]\n"
      "\tuser = nbd\n"
      "   # another\n"
      "[a b]\n"
      "exportname=/srv/a b \n"
      "readonly = true\n"
      "filesize\t=\t1048576\n"
      "odd = \\s\\\\x\\y\\\n"
      "readonly = false\n"
      "[generic]\n"
      "port = 99");
  const auto sections = server::read_key_file(file.path());
  REQUIRE(sections.size() == 2);
  CHECK(sections[0].name == "generic");
  CHECK(sections[0].text("user") == "nbd");
  CHECK(sections[0].text("port") == "99");
  CHECK_FALSE(sections[0].text("group"));
  CHECK(sections[1].name == "a b");
  CHECK(sections[1].text("exportname") == "/srv/a b ");
  CHECK_FALSE(sections[1].flag("readonly"));
  CHECK_FALSE(sections[1].flag("trim"));
  CHECK(sections[1].number("filesize") == 1048576);
  CHECK(sections[1].text("odd") == " \\x\\y\\");
  CHECK(sections[1].place() == file.path() + ":6");
  CHECK(sections[1].place(*sections[1].find("filesize")) == file.path() + ":9");
}

TEST_CASE("what is no key file is refused with file and line") {
  struct Case {
    const char* text;
    const char* complaint;
  };
  for (const auto& [text, complaint] :
       {Case{"a = 1\n", ":1: stands before"}, Case{"[a]\nb\n", ":2: expected KEY"},
        Case{"[a]\n= 1\n", ":2: expected KEY"}, Case{"[a\n", ":1: expected a section"},
        Case{"\n[]\n", ":2: expected a section"}}) {
    CAPTURE(text);
    const auto file = TemporaryFile(text);
    CHECK_THROWS_WITH(server::read_key_file(file.path()), Catch::Contains(file.path() + complaint));
  }
  CHECK_THROWS_WITH(server::read_key_file("/does/not/exist"), Catch::Contains("/does/not/exist"));
  CHECK_THROWS_WITH(server::read_key_file("/tmp"), Catch::Contains("/tmp"));
}

TEST_CASE("values of the wrong kind are refused with their line") {
  const auto file = TemporaryFile("[a]\nb = yes\nc = 1M\nd =\n");
  const auto section = server::read_key_file(file.path()).front();
  CHECK_THROWS_WITH(section.flag("b"), Catch::Contains(":2: b = yes: expected true or false"));
  CHECK_THROWS_WITH(section.number("c"), Catch::Contains(":3: c = 1M: expected a whole number"));
  CHECK_THROWS_WITH(section.number("d"), Catch::Contains(":4: d"));
}
