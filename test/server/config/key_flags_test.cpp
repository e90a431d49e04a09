#include "server/config/key_flags.h"

#include <CLI/CLI.hpp>
#include <catch2/catch.hpp>

#include "server/base/user_error.h"

using server::Config;
using server::ExportConfig;
using server::KeyFlags;

namespace {

// The flags of all keys of an Owner, parsed from the words of a command line.
template <typename Owner>
struct Parsed {
  Parsed(std::span<const server::Key<Owner>> keys, std::vector<std::string> words) : flags(keys) {
    flags.add_to(app);
    std::ranges::reverse(words);
    app.parse(words);
  }

  CLI::App app;
  KeyFlags<Owner> flags;
};

using ServerParsed = Parsed<Config>;
using ExportParsed = Parsed<ExportConfig>;

}  // namespace

TEST_CASE("flags that are not given leave everything as it is") {
  const auto parsed = ServerParsed(server::server_keys(), {});
  CHECK(parsed.flags.given().empty());
  auto config = Config{};
  config.workers = 3;
  parsed.flags.apply(config);
  CHECK(config.workers == 3);
}

TEST_CASE("flags that are given go before what is there") {
  const auto parsed =
      ServerParsed(server::server_keys(),
                   {"--workers", "1", "--memory", "1G", "--no-sandbox", "--listen", "unix:/a",
                    "--listen", "[::1]:9", "--tls", "allow", "--control", "/c.sock"});
  CHECK(parsed.flags.is_given("--tls"));
  CHECK_FALSE(parsed.flags.is_given("--user"));
  auto config = Config{};
  config.workers = 3;
  config.listen = {"127.0.0.1:1"};
  parsed.flags.apply(config);
  CHECK(config.workers == 1);
  CHECK(config.memory == 1U << 30);
  CHECK_FALSE(config.sandbox);
  CHECK(config.listen == std::vector<std::string>{"unix:/a", "[::1]:9"});
  CHECK(config.tls.mode == proto::TlsMode::allow);
  CHECK(config.control_socket == "/c.sock");
}

TEST_CASE("an export can be given all its keys as flags") {
  const auto parsed = ExportParsed(server::export_keys(), {"--read-only",
                                                           "--no-lock",
                                                           "--offset",
                                                           "1K",
                                                           "--size",
                                                           "2K",
                                                           "--direct-io",
                                                           "off",
                                                           "--export-tls",
                                                           "require",
                                                           "--allow",
                                                           "10.0.0.0/8",
                                                           "--allow",
                                                           "uid:5",
                                                           "--read-only-for",
                                                           "psk:reader",
                                                           "--writers",
                                                           "2",
                                                           "--read-iops",
                                                           "10",
                                                           "--client-write-bytes",
                                                           "1M",
                                                           "--client-burst-seconds",
                                                           "2",
                                                           "--description",
                                                           "a few words",
                                                           "--partition",
                                                           "3"});
  auto entry = ExportConfig{};
  parsed.flags.apply(entry);
  CHECK(entry.read_only);
  CHECK_FALSE(entry.lock);
  CHECK(entry.offset == 1024);
  CHECK(entry.size == 2048);
  CHECK(entry.direct_io == engine::DirectIo::off);
  CHECK(entry.tls_required);
  CHECK(entry.access.allow.size() == 2);
  CHECK(entry.access.read_only_for.size() == 1);
  CHECK(entry.writers_max == 2);
  CHECK(entry.limits.read_iops == 10);
  CHECK(entry.client_limits.write_bytes == 1U << 20);
  CHECK(entry.client_limits.burst_seconds == 2);
  CHECK(entry.description == "a few words");
  CHECK(entry.partition == "3");
}

TEST_CASE("a value that the command line cannot check is refused with its flag") {
  const auto parsed = ExportParsed(server::export_keys(), {"--size", "12Q"});
  auto entry = ExportConfig{};
  CHECK_THROWS_WITH(parsed.flags.apply(entry), Catch::StartsWith("--size: \"12Q\""));
  const auto rule = ExportParsed(server::export_keys(), {"--allow", "somebody"});
  CHECK_THROWS_WITH(rule.flags.apply(entry), Catch::StartsWith("--allow: \"somebody\""));
}

namespace {

// Gives each flag a value that no key takes, one after the other.
template <typename Owner>
void check_refusals(std::span<const server::Key<Owner>> keys) {
  for (const auto& key : keys) {
    using Form = server::KeyType::Form;
    if (key.flag.empty() || key.type.form == Form::truth) continue;
    // Any text is one, but for those that are looked at.
    if (key.type.form == Form::text && key.type.check == nullptr) continue;
    CAPTURE(key.flag);
    const auto wants_any = key.type.noun == "file" || key.type.form == Form::label;
    const auto apply = [&] {
      auto owner = Owner{};
      Parsed<Owner>(keys, {key.flag, wants_any ? "" : "\xff:"}).flags.apply(owner);
    };
    CHECK_THROWS_WITH(apply(), Catch::StartsWith(key.flag + ": "));
  }
}

}  // namespace

TEST_CASE("a value that is refused is refused with its flag") {
  check_refusals(server::server_keys());
  check_refusals(server::export_keys());
}

TEST_CASE("a rate that is no number is not called a size") {
  const auto parsed = ExportParsed(server::export_keys(), {"--read-iops", "abc"});
  auto entry = ExportConfig{};
  CHECK_THROWS_WITH(
      parsed.flags.apply(entry),
      Catch::StartsWith("--read-iops: \"abc\" is not a rate: write a number a second"));
}

TEST_CASE("numbers out of bounds and unknown words are wrong usage") {
  CHECK_THROWS_AS(ServerParsed(server::server_keys(), {"--workers", "0"}), CLI::ValidationError);
  CHECK_THROWS_AS(ServerParsed(server::server_keys(), {"--log-level", "loud"}),
                  CLI::ValidationError);
  CHECK_THROWS_AS(ExportParsed(server::export_keys(), {"--burst-seconds", "-1"}),
                  CLI::ValidationError);
}

TEST_CASE("the help names every flag, its words and its default") {
  const auto help = ServerParsed(server::server_keys(), {}).app.help();
  for (const auto& key : server::server_keys()) CHECK_THAT(help, Catch::Contains(key.flag));
  CHECK_THAT(help, Catch::Contains("{trace,debug,") && Catch::Contains("default: info"));
}

TEST_CASE("what a flag overrides is no longer at its place in the file") {
  const auto parsed = ServerParsed(server::server_keys(), {"--memory", "1G"});
  auto config = Config{};
  config.places.by_key = {{"memory", "loopnbd.toml:1: memory"}, {"workers", "loopnbd.toml:2"}};
  parsed.flags.apply(config);
  CHECK(config.places.at_place("memory", "too little") == "too little");
  CHECK(config.places.at_place("workers", "x") == "loopnbd.toml:2: x");
}
