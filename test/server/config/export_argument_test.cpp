#include "server/config/export_argument.h"

#include <catch2/catch.hpp>

#include "server/base/user_error.h"

using server::parse_export_argument;

TEST_CASE("a name stands before the first equals sign, unless a slash does") {
  struct Case {
    const char* text;
    const char* name;
    const char* path;
  };
  for (const auto& [text, name, path] : {
           Case{"disk.img", "disk.img", "disk.img"},
           Case{"/srv/disk.img", "disk.img", "/srv/disk.img"},
           Case{"root=/srv/disk.img", "root", "/srv/disk.img"},
           Case{"b=/srv/x=y.img", "b", "/srv/x=y.img"},
           Case{"a=b=c", "a", "b=c"},
           Case{"/odd=name/c.img", "c.img", "/odd=name/c.img"},
           Case{"./a=b", "a=b", "./a=b"},
           Case{"name=a/b=c", "name", "a/b=c"},
       }) {
    CAPTURE(text);
    const auto argument = parse_export_argument(text);
    CHECK(argument.name == name);
    CHECK(argument.path == path);
  }
}

TEST_CASE("an export needs a name and a file") {
  for (const auto* const text : {"", "=/y", "name=", "=", "/", "folder/"}) {
    CAPTURE(text);
    CHECK_THROWS_WITH(parse_export_argument(text),
                      Catch::Contains("expected FILE or NAME=FILE") && Catch::Contains(text));
    CHECK_THROWS_AS(parse_export_argument(text), server::UserError);
  }
}

TEST_CASE("the default name of an export is its file's, without folders") {
  CHECK(server::default_export_name("/srv/disk.img") == "disk.img");
  CHECK(server::default_export_name("disk.img") == "disk.img");
}
