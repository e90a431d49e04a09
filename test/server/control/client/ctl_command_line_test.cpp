#include "server/control/client/ctl_command_line.h"

#include <CLI/CLI.hpp>
#include <algorithm>
#include <boost/json/parse.hpp>
#include <catch2/catch.hpp>
#include <filesystem>
#include <string>
#include <vector>

#include "server/control/control_commands.h"

namespace {

namespace json = boost::json;

// The request of a command line that follows "loopnbd ctl".
server::Ctl parse(std::vector<std::string> words) {
  auto app = CLI::App();
  const auto ctl = server::add_ctl(app);
  words.insert(words.begin(), "ctl");
  std::ranges::reverse(words);  // as the parser takes them
  app.parse(words);
  return *ctl;
}

json::value request(const std::vector<std::string>& words) {
  return json::parse(parse(words).request);
}

}  // namespace

TEST_CASE("command lines of ctl become requests") {
  const auto here = std::filesystem::current_path().string();
  struct Case {
    std::vector<std::string> words;
    json::value expected;
  };
  const auto cases = std::vector<Case>{
      {{"status"}, {{"command", "status"}}},
      {{"reload"}, {{"command", "reload"}}},
      {{"reload", "--now"}, {{"command", "reload"}, {"departure", "now"}}},
      {{"remove", "a", "--drain"},
       {{"command", "remove"}, {"export", "a"}, {"departure", "drain"}}},
      {{"add", "/srv/a=b.img"},
       {{"command", "add"}, {"export", "a=b.img"}, {"path", "/srv/a=b.img"}}},
      {{"add", "name=b.img", "--read-only", "--size", "4K"},
       {{"command", "add"},
        {"export", "name"},
        {"path", here + "/b.img"},
        {"read_only", true},
        {"size", 4096}}},
      {{"add", "/srv/a", "--no-lock", "--allow", "10.0.0.0/8", "--client-read-iops", "5"},
       {{"command", "add"},
        {"export", "a"},
        {"path", "/srv/a"},
        {"lock", false},
        {"allow", json::array{"10.0.0.0/8"}},
        {"client_limits", {{"read_iops", 5}}}}},
      {{"resize", "a", "1M", "--force"},
       {{"command", "resize"}, {"export", "a"}, {"size", 1 << 20}, {"force", true}}},
      {{"swap", "a", "b.img"}, {{"command", "swap"}, {"export", "a"}, {"path", here + "/b.img"}}},
      {{"pause", "a", "--for", "5"}, {{"command", "pause"}, {"export", "a"}, {"seconds", 5}}},
      {{"limit", "a", "--per-client", "--read-bytes", "2K", "--burst-seconds", "0.5"},
       {{"command", "limit"},
        {"export", "a"},
        {"per_client", true},
        {"read_bytes", 2048},
        {"burst_seconds", 0.5}}},
      {{"disconnect", "17"}, {{"command", "disconnect"}, {"connection", 17}}},
      {{"disconnect", "--export", "a"}, {{"command", "disconnect"}, {"export", "a"}}},
      {{"drain"}, {{"command", "drain"}}},
      {{"log-level", "debug"}, {{"command", "log-level"}, {"level", "debug"}}},
      {{"top", "--count", "2"}, {{"command", "status"}}},
  };
  for (const auto& [words, expected] : cases) {
    CAPTURE(words);
    CHECK(request(words) == expected);
  }
}

TEST_CASE("what is meant for the client itself is no part of the request") {
  const auto ctl = parse({"--socket", "/run/x.sock", "--json", "top", "--interval", "0.5"});
  CHECK(ctl.socket == "/run/x.sock");
  CHECK(ctl.json);
  CHECK(ctl.interval_seconds == 0.5);
  CHECK(ctl.command == "top");
}

TEST_CASE("command lines of ctl that say nothing or too much are refused") {
  for (const auto& words : std::vector<std::vector<std::string>>{
           {},
           {"dance"},
           {"remove"},
           {"remove", "a", "--drain", "--now"},
           {"disconnect"},
           {"disconnect", "1", "--export", "a"},
           {"log-level", "loud"},
           {"direct-io", "a", "auto"},
           {"pause", "a", "--for", "3601"},
           {"status", "a"},
       }) {
    CAPTURE(words);
    CHECK_THROWS_AS(parse(words), CLI::ParseError);
  }
}

TEST_CASE("every command of the server can be asked for") {
  auto app = CLI::App();
  const auto ctl = server::add_ctl(app);
  for (const auto& command : server::control_commands()) {
    CAPTURE(command.name);
    CHECK(app.get_subcommand("ctl")->get_subcommand(command.name)->get_description() ==
          command.help);
  }
}
