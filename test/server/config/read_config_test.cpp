#include "server/config/read_config.h"

#include <catch2/catch.hpp>

#include "server/base/user_error.h"
#include "server/command_line.h"
#include "server/config/toml.h"
#include "test/support/temporary_file.h"

using server::UserError;
using test::TemporaryFile;

namespace {

server::Config parse(std::vector<const char*> arguments) {
  arguments.insert(arguments.begin(), {"loopnbd", "serve"});
  const auto command =
      server::parse_command_line(static_cast<int>(arguments.size()), arguments.data());
  return std::get<server::Serve>(command).config;
}

}  // namespace

TEST_CASE("a complete configuration is read") {
  const auto file = TemporaryFile(R"(
listen = ["127.0.0.1:10809", "unix:/run/loopnbd/nbd.sock"]
workers = 2
memory = "32M"
max_connections = 10
log_level = "debug"
[[export]]
name = "disk"
path = "/srv/disk.img"
description = "the demo disk"
read_only = true
offset = "1M"
size = 1048576
direct_io = "off"
lock = false
[[export]]
path = "/srv/other.img"
)");
  const auto config = server::read_config(file.path());
  CHECK(config.listen == std::vector<std::string>{"127.0.0.1:10809", "unix:/run/loopnbd/nbd.sock"});
  CHECK(config.workers == 2);
  CHECK(config.memory == 32U << 20);
  CHECK(config.connections_max == 10);
  CHECK(config.log_level == "debug");
  REQUIRE(config.exports.size() == 2);
  const auto& disk = config.exports.front();
  CHECK(disk.name == "disk");
  CHECK(disk.path == "/srv/disk.img");
  CHECK(disk.description == "the demo disk");
  CHECK(disk.read_only);
  CHECK(disk.offset == 1U << 20);
  CHECK(disk.size == 1U << 20);
  CHECK(disk.direct_io == engine::DirectIo::off);
  CHECK_FALSE(disk.lock);
  CHECK(config.exports.back().name == "other.img");
}

TEST_CASE("a wrong configuration is refused with file, line, key and remedy") {
  struct Case {
    const char* text;
    const char* line;
    const char* complaint;
  };
  const auto cases = {
      Case{"lisen = []", ":1: lisen", "unknown key"},
      Case{"\nlisten = \"127.0.0.1:1\"", ":2: listen", "list of addresses"},
      Case{"listen = [1]", ":1: listen", "list of addresses"},
      Case{"workers = 0", ":1: workers", "from 1 to"},
      Case{"busy_poll_us = 1001", ":1: busy_poll_us", "from 0 to 1000"},
      Case{"wake_latency_us = 1001", ":1: wake_latency_us", "from 0 to 1000"},
      Case{"workers = \"2\"", ":1: workers", "whole number"},
      Case{"memory = \"much\"", ":1: memory", "not a size"},
      Case{"memory = -1", ":1: memory", "expected a size"},
      Case{"log_level = \"loud\"", ":1: log_level", "not one of"},
      Case{"[export]\npath = \"x\"", ":1: export", "two brackets"},
      Case{"[[export]]\nname = \"x\"", ":1: export[0]", "no \"path\""},
      Case{"[[export]]\npath = 1", ":2: export[0].path", "expected"},
      Case{"[[export]]\npath = \"x\"\nread_only = 1", ":3: export[0].read_only", "true or false"},
      Case{"[[export]]\npath = \"x\"\nname = \"\"", ":3: export[0].name", "not empty"},
      Case{"[[export]]\npath = \"x\"\ndirect_io = \"yes\"", ":3: export[0].direct_io",
           "auto, on, off"},
      Case{"[[export]]\npath = \"x\"\nsize = \"1Q\"", ":3: export[0].size", "not a size"},
      Case{"[[export]]\npath = \"x\"\ncolour = 1", ":3: export[0].colour", "unknown key"},
      Case{"[[export]]\npath = \"x\"\n[export.limits]\nread_iop = 1",
           ":4: export[0].limits.read_iop", "unknown key"},
      // The first mistake is named, whatever the alphabet and the kind of mistake.
      Case{"zeal = 1\nworkers = 0\nage = 1", ":1: zeal", "unknown key"},
      Case{"workers = 0\nage = 1", ":1: workers", "from 1 to"},
      Case{"[tls]\nmod = 1\n[http]\nadress = 1", ":2: tls.mod", "unknown key"},
      Case{"workers = ", ":1:", ""},
      Case{"workers = 1\n[[\n", ":2:", "no TOML"},
      Case{"workers = 1\n\n[", ":3:", "end-of-file"},
      Case{"[#\nworkers = 1", ":1:", "no TOML"},
      Case{"[=]\n", ":1:", "no TOML"},
      Case{"\n[[\xc3\xa9]]\n", ":2:", "not ASCII"},
      Case{"listen = [0\"1\xc9\x9b", ":1:", "in the middle of a word"},
  };
  for (const auto& [text, line, complaint] : cases) {
    CAPTURE(text);
    const auto file = TemporaryFile(text);
    CHECK_THROWS_WITH(server::read_config(file.path()),
                      Catch::Contains(file.path() + line) && Catch::Contains(complaint));
  }
  CHECK_THROWS_WITH(server::read_config("/does/not/exist.toml"),
                    Catch::Contains("/does/not/exist.toml"));
}

TEST_CASE("files on the command line become exports") {
  const auto config = parse({"--read-only", "--offset", "1K", "--listen", "unix:/a", "--listen",
                             "[::1]:9", "/srv/a.img", "b=/srv/x=y.img", "/odd=name/c.img"});
  CHECK(config.listen == std::vector<std::string>{"unix:/a", "[::1]:9"});
  REQUIRE(config.exports.size() == 3);
  CHECK(config.exports[0].name == "a.img");
  CHECK(config.exports[0].read_only);
  CHECK(config.exports[0].offset == 1024);
  CHECK(config.exports[1].name == "b");
  CHECK(config.exports[1].path == "/srv/x=y.img");
  CHECK(config.exports[2].name == "c.img");
  CHECK(config.exports[2].path == "/odd=name/c.img");
}

TEST_CASE("flags go before what the configuration file says") {
  const auto file =
      TemporaryFile("workers = 3\nmemory = \"128M\"\n[[export]]\npath = \"/srv/a.img\"\n");
  const auto config = parse({"--config", file.path().c_str(), "--workers", "1", "b=/srv/b.img"});
  CHECK(config.workers == 1);
  CHECK(config.memory == 128U << 20);
  CHECK(config.exports.size() == 2);
}

TEST_CASE("a command line that cannot be is refused") {
  CHECK_THROWS_WITH(parse({}), Catch::Contains("nothing to serve"));
  CHECK_THROWS_WITH(parse({"a=/x", "a=/y"}), Catch::Contains("two exports are called \"a\""));
  CHECK_THROWS_WITH(parse({"--stdio", "--listen", "unix:/x", "/y"}), Catch::Contains("--stdio"));
  CHECK_THROWS_WITH(parse({"--memory", "1M", "/y"}), Catch::Contains("too little"));
  CHECK_THROWS_WITH(parse({"=/y"}), Catch::Contains("NAME=FILE"));
  CHECK_THROWS_WITH(parse({"\xff=/y"}), Catch::Contains("UTF-8"));
  const auto long_name = std::string(4097, 'x') + "=/y";
  CHECK_THROWS_WITH(parse({long_name.c_str()}), Catch::Contains("4096 bytes"));
}

TEST_CASE("what stands in quotation marks and comments may be any text") {
  const auto table = server::parse_toml(
      "\xef\xbb\xbf# \xc3\xa9 [[ ' \"\n"
      R"(one = "é # \" \\" # '
two = '\é "'
three = """a
é \""" "" ' b"""""
four = '''
é \''''
"é" = 1.5
)",
      "x.toml");
  CHECK(table["one"].value<std::string>() == R"(é # " \)");
  CHECK(table["two"].value<std::string>() == R"(\é ")");
  CHECK(table["three"].value<std::string>() == "a\né \"\"\" \"\" ' b\"\"");
  CHECK(table["four"].value<std::string>() == R"(é \')");
  CHECK(table["é"].value<double>() == 1.5);
}

TEST_CASE("tables nested without end are refused") {
  auto text = std::string("a");
  for (auto depth = 0; depth < 1'000'000; ++depth) text += ".a";
  CHECK_THROWS_WITH(server::parse_toml(text + " = 1\n", "x.toml"),
                    Catch::Contains("x.toml:1:") && Catch::Contains("dots"));
  CHECK_THROWS_AS(server::parse_toml(std::string(1'000'000, '['), "x.toml"), UserError);
  CHECK_THROWS_AS(server::parse_toml("a = " + std::string(1'000'000, '['), "x.toml"), UserError);
}

TEST_CASE("a configuration cut off or changed at any byte is read or refused") {
  constexpr auto text = std::string_view(R"(listen = ["127.0.0.1:10809"] # all
workers = 2
[tls]
mode = "allow"
[[export]]
name = "a.b"
path = '/srv/disk.img'
limits = { read_iops = 5_000, burst_seconds = 1.5 }
[[export]]
path = """/srv/\u00e9.img"""
offset = 0x1000
)");
  const auto path = std::string("loopnbd.toml");
  auto refused = 0;
  const auto try_to_parse = [&](std::string_view broken) {
    try {
      static_cast<void>(server::parse_toml(broken, path));
    } catch (const UserError& error) {
      ++refused;
      CHECK_THAT(error.what(), Catch::StartsWith("loopnbd.toml:"));
    }
  };
  for (auto length = std::size_t{0}; length <= text.size(); ++length)
    try_to_parse(text.substr(0, length));
  for (auto at = std::size_t{0}; at < text.size(); ++at)
    for (const auto byte : std::string_view("[]{}=.,\"'#\n\r\\_- \t0az\x01\x80\xc3\xff", 23)) {
      auto broken = std::string(text);
      broken[at] = byte;
      try_to_parse(broken);
      try_to_parse(broken.insert(at, 1, byte));
    }
  CHECK(refused > 1000);
}
