#include "server/live/quiescer.h"

#include <catch2/catch.hpp>
#include <cerrno>

#include "server/base/user_error.h"
#include "test/server/live/live_fixture.h"

using namespace std::chrono_literals;
using engine::Faults;
using proto::Command;
using server::Quiescer;
using server::UserError;
using test::Client;
using test::LiveFixture;
using test::TestServer;

namespace {

Client attached(LiveFixture& fixture) {
  auto client = fixture.server.connect();
  client.go(TestServer::export_name);
  return client;
}

}  // namespace

TEST_CASE("a device is at rest when what was in flight is finished, on every worker") {
  auto fixture = LiveFixture({.workers = 2});
  auto quiescer = Quiescer(fixture.live);
  auto first = attached(fixture);
  auto second = attached(fixture);
  fixture.server.faults().hold(Faults::Hold::completions);
  first.request(Command::read, 1, 0, 512);
  second.request(Command::read, 1, 0, 512);
  REQUIRE(fixture.server.faults().wait_for_held(2));
  auto quiescing = fixture.begin(quiescer.quiesce(fixture.group()));
  fixture.server.faults().release(1);
  CHECK(quiescing.wait_for(0s) != std::future_status::ready);
  fixture.server.faults().release_all();
  fixture.finish(std::move(quiescing));
  CHECK(first.receive_reply(512).error == 0);
  CHECK(second.receive_reply(512).error == 0);
  fixture.run(quiescer.resume(fixture.group()));
}

TEST_CASE("what clients ask of a device at rest is answered when it goes on") {
  auto fixture = LiveFixture();
  auto quiescer = Quiescer(fixture.live);
  auto client = attached(fixture);
  fixture.run(quiescer.quiesce(fixture.group()));
  REQUIRE(fixture.is_held_back(client));
  CHECK_FALSE(client.has_input());
  const auto wait = GENERATE(true, false);
  if (wait) fixture.run(quiescer.resume(fixture.group()));
  if (!wait) quiescer.resume_detached(fixture.group());
  CHECK(client.receive_reply(512).error == 0);
}

TEST_CASE("an export whose sync fails goes on, and the error names it") {
  auto fixture = LiveFixture();
  auto quiescer = Quiescer(fixture.live);
  auto client = attached(fixture);
  fixture.server.faults().fail_syncs(EIO);
  CHECK_THROWS_WITH(
      fixture.run(quiescer.quiesce(fixture.group())),
      Catch::Contains("\"disk\" stays as it is: its sync failed: Input/output error"));
  CHECK(client.call(Command::read, 0, 512).error == 0);
}

TEST_CASE("an export whose device does not come to rest in time goes on") {
  auto fixture = LiveFixture({.workers = 2});
  auto quiescer = Quiescer(fixture.live, 0s);
  auto client = attached(fixture);
  auto other = attached(fixture);
  fixture.server.faults().hold(Faults::Hold::completions);
  client.request(Command::read, 1, 0, 512);
  REQUIRE(fixture.server.faults().wait_for_held(1));
  CHECK_THROWS_AS(fixture.run(quiescer.quiesce(fixture.group())), UserError);
  fixture.server.faults().release_all();
  CHECK(client.receive_reply(512).error == 0);
  CHECK(other.call(Command::read, 0, 512).error == 0);
}

TEST_CASE("a read-only device is at rest without a sync") {
  auto fixture = LiveFixture({.read_only = true});
  auto quiescer = Quiescer(fixture.live);
  fixture.server.faults().fail_syncs(EIO);
  fixture.run(quiescer.quiesce(fixture.group()));
  fixture.run(quiescer.resume(fixture.group()));
}

TEST_CASE("an export that no worker serves any more does not keep its group from resting") {
  auto fixture = LiveFixture();
  auto quiescer = Quiescer(fixture.live);
  auto client = attached(fixture);
  const auto group =
      server::ExportGroup{fixture.server.make_export("gone"), fixture.server.target()};
  fixture.run(quiescer.quiesce(group));
  REQUIRE(fixture.is_held_back(client));
  fixture.run(quiescer.resume(group));
  CHECK(client.receive_reply(512).error == 0);
}
