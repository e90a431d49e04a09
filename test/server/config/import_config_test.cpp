#include "server/config/import_config.h"

#include <catch2/catch.hpp>

#include "server/base/user_error.h"
#include "server/config/read_config.h"
#include "server/config/validate.h"
#include "test/support/temporary_file.h"

using Catch::Contains;
using test::TemporaryFile;

namespace {

server::ImportedConfig import_text(const std::string& text) {
  const auto file = TemporaryFile(text);
  return server::import_config(file.path());
}

// The translation, as our own reader takes it.
server::Config imported(const std::string& text) {
  const auto file = TemporaryFile(import_text(text).toml);
  auto config = server::read_config(file.path());
  server::validate(config);
  return config;
}

}  // namespace

TEST_CASE("an export of nbd-server becomes one of ours, with its addresses and TLS") {
  const auto config = imported(
      "[generic]\nport = 2000\nlistenaddr = 127.0.0.1, ::1\nuser = nbd\nforce_tls = true\n"
      "keyfile = /k.pem\ncertfile = /c.pem\ncacertfile = /ca.pem\nallowlist = true\n"
      "[disk]\nexportname = /srv/disk.img\nreadonly = true\nfilesize = 1048576\n");
  CHECK(config.listen == std::vector<std::string>{"127.0.0.1:2000", "[::1]:2000"});
  CHECK(config.user == "nbd");
  CHECK(config.tls.mode == proto::TlsMode::require);
  CHECK(config.tls.certificate == "/c.pem");
  CHECK(config.tls.key == "/k.pem");
  CHECK(config.tls.client_ca == "/ca.pem");
  REQUIRE(config.exports.size() == 1);
  CHECK(config.exports[0].name == "disk");
  CHECK(config.exports[0].path == "/srv/disk.img");
  CHECK(config.exports[0].read_only);
  CHECK(config.exports[0].size == 1U << 20);
}

TEST_CASE("the networks of an authfile become rules, without the bits behind their prefixes") {
  const auto networks =
      TemporaryFile("127.0.0.1\n192.168.1.1/8 # more\n\n# nobody\nfe80::1:0/112\nsomebody\n");
  const auto text = "[generic]\n[a]\nexportname = /a\nauthfile = " + networks.path() + "\n";
  const auto config = imported(text);
  const auto& allow = config.exports.at(0).access.allow;
  REQUIRE(allow.size() == 3);
  CHECK(allow[0] == server::parse_client_pattern("127.0.0.1"));
  CHECK(allow[1] == server::parse_client_pattern("192.0.0.0/8"));
  CHECK(allow[2] == server::parse_client_pattern("fe80::1:0/112"));
  CHECK_THAT(import_text(text).toml, Contains("\"somebody\" is no address and no network"));
}

TEST_CASE("an export that nobody could use, or in another way, is left out with a note") {
  const auto nobody = TemporaryFile("# nobody\n");
  for (const auto& line : {"authfile = " + nobody.path(), std::string("multifile = true"),
                           std::string("temporary = true"), std::string("tlsonly = true")}) {
    CAPTURE(line);
    const auto result = import_text("[generic]\n[a]\nexportname = /a\n" + line + "\n");
    CHECK_THAT(result.toml, !Contains("[[export]]"));
    CHECK_THAT(result.notes.back(), Contains("[a] is left out"));
  }
}

TEST_CASE("what has no equivalent is noted with file and line") {
  const auto result =
      import_text("[generic]\nallowlist = true\n[a]\nexportname = /a\nsync = true\ncolour = red\n");
  REQUIRE(result.notes.size() == 2);
  CHECK_THAT(result.notes[0], Contains(":5: sync = true: no equivalent"));
  CHECK_THAT(result.notes[1], Contains(":6: colour: not a key of nbd-server"));
  CHECK_THAT(result.toml, Contains("# " + result.notes[0]));
}

TEST_CASE("a configuration that nbd-server would not take either is refused") {
  for (const auto& [text, complaint] : {
           std::pair{"[a]\nexportname = /a\n", "not [generic]"},
           std::pair{"[generic]\n", "no exports"},
           std::pair{"[generic]\noldstyle = true\n[a]\nexportname = /a\n", "oldstyle"},
           std::pair{"[generic]\n[a]\n", "no exportname"},
           std::pair{"[generic]\n[a]\nexportname =\n", "exportname has no value"},
           std::pair{"[generic]\nkeyfile =\n[a]\nexportname = /a\n", "keyfile has no value"},
           std::pair{"[generic]\nforce_tls = true\n[a]\nexportname = /a\n", "without a keyfile"},
           std::pair{"[generic]\n[a]\nexportname = /a\nfilesize = -1\n", "number of bytes"},
       }) {
    CAPTURE(text);
    CHECK_THROWS_WITH(import_text(text), Contains(complaint));
  }
}

TEST_CASE("a value of several lines stays in the comment that quotes it") {
  const auto config = imported(
      "[generic]\nlistenaddr = 127.0.0.1\n[disk]\nexportname = /srv/x\n"
      "prerun = true\\n[[export]]\\nname = \"stolen\"\\npath = \"/etc/shadow\"\n");
  REQUIRE(config.exports.size() == 1);
  CHECK(config.exports.front().name == "disk");
}

TEST_CASE("a text that is no UTF-8 is refused, or stands in a note without the bytes at fault") {
  CHECK_THROWS_WITH(import_text("[generic]\nuser = \xff\n[disk]\nexportname = /srv/x\n"),
                    Contains("\"?\"") && Contains("UTF-8"));
  CHECK_THROWS_AS(import_text("[generic]\nunixsock =\n[disk]\nexportname = /srv/x\n"),
                  server::UserError);
  const auto config =
      imported("[generic]\nlistenaddr = 127.0.0.1\n[disk]\nexportname = /srv/x\nprerun = \xff\n");
  CHECK(config.exports.size() == 1);
}
