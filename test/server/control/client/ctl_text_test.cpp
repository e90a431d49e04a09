#include "server/control/client/ctl_text.h"

#include <algorithm>
#include <catch2/catch.hpp>
#include <string>

#include "server/watch/status_json.h"
#include "test/server/watch/example_status.h"

using Catch::Contains;

TEST_CASE("a status is shown as lines") {
  const auto text = server::format_status(server::json_of(test::example_status()));
  CHECK_THAT(text, Contains("loopnbd 1.2.3, up 4 s, 1 worker, 30 B of 100 B in use\n"));
  CHECK_THAT(text, Contains("listening on 127.0.0.1:10809\n"));
  CHECK_THAT(text, Contains("export \"disk\": /srv/\"disk\".img, 4 KiB, direct I/O, A SYNC FAILED, "
                            "1 connection\n"));
}

TEST_CASE("a worker that does not respond is said to") {
  auto status = test::example_status();
  status.workers.front().responding = false;
  CHECK_THAT(server::format_status(server::json_of(status)), Contains("not all respond"));
}

TEST_CASE("connections are shown in columns") {
  auto status = test::example_status();
  auto& client = status.workers.front().clients.front();
  client.peer = "unix:\x1b[2J" + std::string(100, 'x');
  const auto text = server::format_connections(server::json_of(status));
  CHECK_THAT(text, Contains("     7  unix:?[2J" + std::string(16, 'x') + "... disk "));
}

TEST_CASE("top shows what has changed between two statuses") {
  const auto before = server::json_of(test::example_status());
  auto status = test::example_status();
  auto& read = status.exports.front().commands.front();
  read.answered += 10;
  read.bytes += 10 << 20;
  const auto text = server::format_top(before, server::json_of(status), 2, 100);
  CHECK_THAT(text, Contains("disk"));
  CHECK_THAT(text, Contains("5 MiB"));
  const auto cut = server::format_top(before, server::json_of(status), 2, 1);
  CHECK(std::count(cut.begin(), cut.end(), '\n') == 1);
}
