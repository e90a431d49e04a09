#include "server/config/validate.h"

#include <catch2/catch.hpp>

#include "server/base/user_error.h"
#include "server/command_line.h"
#include "server/config/read_config.h"
#include "test/support/temporary_file.h"

using server::Config;
using server::UserError;
using test::TemporaryFile;

namespace {

Config read(const std::string& text) {
  const auto file = TemporaryFile(text);
  auto config = server::read_config(file.path());
  server::validate(config);
  return config;
}

Config parse(std::vector<const char*> arguments) {
  arguments.insert(arguments.begin(), {"loopnbd", "serve"});
  const auto command =
      server::parse_command_line(static_cast<int>(arguments.size()), arguments.data());
  return std::get<server::Serve>(command).config;
}

constexpr auto* complete = R"([tls]
mode = "allow"
certificate = "/etc/loopnbd/server-cert.pem"
key = "/etc/loopnbd/server-key.pem"
client_ca = "/etc/loopnbd/ca-cert.pem"
psk_file = "/etc/loopnbd/keys.psk"
[[export]]
path = "/srv/disk.img"
tls = "require"
writers = 1
allow = ["10.0.0.0/8", "cert:CN=node-*", "psk:backup", "uid:1000"]
read_only_for = ["psk:reader"]
)";

}  // namespace

TEST_CASE("a complete configuration of TLS and access is read") {
  const auto config = read(complete);
  CHECK(config.tls.mode == proto::TlsMode::allow);
  CHECK(config.tls.certificate == "/etc/loopnbd/server-cert.pem");
  CHECK(config.tls.key == "/etc/loopnbd/server-key.pem");
  CHECK(config.tls.client_ca == "/etc/loopnbd/ca-cert.pem");
  CHECK(config.tls.psk_file == "/etc/loopnbd/keys.psk");
  const auto& disk = config.exports.front();
  CHECK(disk.tls_required);
  CHECK(disk.writers_max == 1);
  CHECK(disk.access.allow.size() == 4);
  CHECK(disk.access.read_only_for.size() == 1);
}

TEST_CASE("without a word about security nothing is restricted") {
  const auto config = read("[[export]]\npath = \"/srv/disk.img\"\n");
  CHECK(config.tls.mode == proto::TlsMode::off);
  CHECK_FALSE(config.exports.front().tls_required);
  CHECK(config.exports.front().writers_max == 0);
  CHECK(config.exports.front().access.allow.empty());
}

TEST_CASE("a certificate or keys without a mode are required to be used") {
  for (const auto* const line : {"certificate = \"/c\"", "psk_file = \"/k\""}) {
    const auto config =
        read(std::string("[tls]\n") + line + "\n[[export]]\npath = \"/srv/disk.img\"\n");
    CHECK(config.tls.mode == proto::TlsMode::require);
  }
  CHECK(parse({"--tls-psk-file", "/k", "/a"}).tls.mode == proto::TlsMode::require);
  CHECK(parse({"--tls-certificate", "/c", "/a"}).tls.mode == proto::TlsMode::require);
  CHECK(parse({"--tls-certificate", "/c", "--tls", "allow", "/a"}).tls.mode ==
        proto::TlsMode::allow);
}

TEST_CASE("the flags say what the keys say, for the files on the command line") {
  const auto config = parse({"--tls",
                             "allow",
                             "--tls-certificate",
                             "/c",
                             "--tls-key",
                             "/k",
                             "--tls-client-ca",
                             "/ca",
                             "--tls-psk-file",
                             "/p",
                             "--allow",
                             "10.0.0.0/8",
                             "--allow",
                             "cert:CN=a",
                             "--read-only-for",
                             "psk:reader",
                             "--writers",
                             "2",
                             "/a",
                             "/b"});
  CHECK(config.tls.key == "/k");
  CHECK(config.tls.client_ca == "/ca");
  REQUIRE(config.exports.size() == 2);
  for (const auto& entry : config.exports) {
    CHECK(entry.access.allow.size() == 2);
    CHECK(entry.access.read_only_for.size() == 1);
    CHECK(entry.writers_max == 2);
  }
}

TEST_CASE("wrong security settings are refused with file, line, key and remedy") {
  struct Case {
    const char* text;
    const char* place;
    const char* complaint;
  };
  constexpr auto* in_export = "[[export]]\npath = \"/srv/disk.img\"\n";
  const auto cases = {
      Case{"tls = \"require\"", ":1: tls", "[tls]"},
      Case{"[tls]\nmode = \"maybe\"", ":2: tls.mode", "off, allow, require"},
      Case{"[tls]\nmode = \"require\"", ":2: tls.mode", "certificate"},
      Case{"[tls]\ncertificat = \"/c\"", ":2: tls.certificat", "unknown key"},
      Case{"[tls]\ncertificate = \"\"", ":2: tls.certificate", "path"},
      Case{"[tls]\npsk_file = \"/k\"\nkey = \"/k\"", ":3: tls.key", "certificate"},
      Case{"[tls]\npsk_file = \"/k\"\nclient_ca = \"/k\"", ":3: tls.client_ca", "certificate"},
      Case{"tls = \"require\"", ":3: export[0].tls", "TLS is off"},
      Case{"tls = \"off\"", ":3: export[0].tls", "allow, require"},
      Case{"writers = 0", ":3: export[0].writers", "from 1 to"},
      Case{"allow = \"10.0.0.0/8\"", ":3: export[0].allow", "list of clients"},
      Case{"allow = []", ":3: export[0].allow", "nobody"},
      Case{"allow = [5]", ":3: export[0].allow", "list of clients"},
      Case{"allow = [\"10.0.0.1/8\"]", ":3: export[0].allow", "beyond its prefix"},
      Case{"read_only_for = [\"10.0.0.0/40\"]", ":3: export[0].read_only_for", "prefix"},
      Case{"allow = [\"psk:backup\"]", ":3: export[0].allow", "psk_file"},
      Case{"read_only_for = [\"cert:CN=a\"]", ":3: export[0].read_only_for", "client_ca"},
  };
  for (const auto& [text, place, complaint] : cases) {
    CAPTURE(text, place);
    const auto of_export = std::string(place).starts_with(":3: export");
    const auto whole =
        of_export ? std::string(in_export) + text : text + std::string("\n") + in_export;
    CHECK_THROWS_WITH(read(whole), Catch::Contains(place) && Catch::Contains(complaint));
  }
}

TEST_CASE("wrong flags are refused") {
  CHECK_THROWS_WITH(parse({"--tls", "require", "/a"}), Catch::Contains("--tls-certificate"));
  CHECK_THROWS_WITH(parse({"--tls-key", "/k", "/a"}), Catch::Contains("--tls-certificate"));
  CHECK_THROWS_WITH(parse({"--allow", "10.0.0.0", "--allow", "somebody", "/a"}),
                    Catch::Contains("somebody"));
  CHECK_THROWS_WITH(parse({"--allow", "psk:a", "/a"}), Catch::Contains("--tls-psk-file"));
}

TEST_CASE("the log says what TLS works with") {
  CHECK(server::describe(read(complete).tls) ==
        "certificate /etc/loopnbd/server-cert.pem, clients need one signed by "
        "/etc/loopnbd/ca-cert.pem, pre-shared keys /etc/loopnbd/keys.psk");
}

TEST_CASE("an export is valid or not by the TLS that it is served with") {
  auto entry = server::ExportConfig{};
  entry.name = "disk";
  entry.path = "/srv/disk.img";
  auto tls = server::TlsConfig{};
  CHECK_NOTHROW(server::check_export(entry, tls));
  entry.tls_required = true;
  CHECK_THROWS_WITH(server::check_export(entry, tls), Catch::Contains("TLS is off"));
  tls.mode = proto::TlsMode::allow;
  CHECK_NOTHROW(server::check_export(entry, tls));
  entry.access.allow = {server::parse_client_pattern("psk:alice")};
  CHECK_THROWS_WITH(server::check_export(entry, tls), Catch::Contains("psk_file"));
  tls.psk_file = "/k";
  CHECK_NOTHROW(server::check_export(entry, tls));
  entry.access.read_only_for = {server::parse_client_pattern("cert:CN=a")};
  CHECK_THROWS_WITH(server::check_export(entry, tls), Catch::Contains("client_ca"));
}

TEST_CASE("an export's name and description are strings of the protocol") {
  auto entry = server::ExportConfig{};
  entry.path = "/srv/disk.img";
  CHECK_THROWS_WITH(server::check_export(entry, {}), Catch::Contains("not empty"));
  entry.name = "\xff";
  CHECK_THROWS_WITH(server::check_export(entry, {}), Catch::Contains("UTF-8"));
  entry.name = "disk";
  entry.description = std::string(5000, 'x');
  CHECK_THROWS_WITH(server::check_export(entry, {}), Catch::Contains("description"));
}

TEST_CASE("a partition has its own offset and size") {
  auto entry = server::ExportConfig{};
  entry.name = "disk";
  entry.partition = "2";
  CHECK_NOTHROW(server::check_export(entry, {}));
  entry.offset = 512;
  CHECK_THROWS_WITH(server::check_export(entry, {}), Catch::Contains("its own offset"));
  entry.offset = 0;
  entry.size = 512;
  CHECK_THROWS_WITH(server::check_export(entry, {}), Catch::Contains("its own offset"));
}

TEST_CASE("the exports of a server are at least one, and no name is there twice") {
  CHECK_THROWS_WITH(server::check_exports({}, {}), Catch::Contains("nothing to serve"));
  auto list = std::vector<server::ExportConfig>(2);
  list[0].name = "a";
  list[1].name = "b";
  CHECK_NOTHROW(server::check_exports(list, {}));
  list[1].name = "a";
  list[1].places.by_key = {{"name", "x.toml:7: export[1].name"}};
  CHECK_THROWS_WITH(server::check_exports(list, {}),
                    Catch::StartsWith("x.toml:7: export[1].name: two exports are called \"a\""));
  // A name that comes from the file's.
  list[1].places.by_key = {{"path", "x.toml:8: export[1].path"}};
  CHECK_THROWS_WITH(server::check_exports(list, {}),
                    Catch::StartsWith("x.toml:8: export[1].path: two exports are called \"a\""));
}

TEST_CASE("what the process needs does not depend on its exports") {
  auto config = Config{};
  CHECK_NOTHROW(server::check_process(config));
  config.stdio = true;
  config.listen = {"unix:/x"};
  CHECK_THROWS_WITH(server::check_process(config), Catch::Contains("--stdio"));
  config = {};
  config.tls.mode = proto::TlsMode::require;
  CHECK_THROWS_WITH(server::check_process(config), Catch::Contains("certificate"));
  config = {};
  config.memory = 1024;
  config.places.by_key = {{"memory", "x.toml:1: memory"}};
  CHECK_THROWS_WITH(server::check_process(config),
                    Catch::StartsWith("x.toml:1: memory: memory = 1024 bytes is too little"));
}
