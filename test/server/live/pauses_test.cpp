#include "server/live/pauses.h"

#include <catch2/catch.hpp>
#include <cerrno>
#include <optional>

#include "server/base/user_error.h"
#include "test/server/live/live_fixture.h"

using namespace std::chrono_literals;
using server::ChangeLock;
using server::UserError;
using test::Client;
using test::TestServer;

namespace {

struct Paused : test::LiveFixture {
  using LiveFixture::begin;

  explicit Paused(const test::TestServerOptions& options = {}) : LiveFixture(options) {
    client.go(TestServer::export_name);
  }
  ~Paused() { pauses.end_all(); }  // the server ends when its clients are answered

  void pause(std::chrono::seconds longest = 1h) { run(pauses.begin(group(), "disk", longest)); }
  bool contained() const { return pauses.contain(*server.target()); }
  // Handles what is due on the accepting thread.
  void poll() {
    io_context.restart();
    io_context.poll();
  }
  // Until the pause has ended by itself.
  void wait_for_end() {
    CHECK(test::eventually([this] {
      poll();
      return !contained();
    }));
  }

  Client client = server.connect();
  ChangeLock lock{io_context};
  server::Quiescer quiescer{live};
  server::Pauses pauses{io_context, quiescer, lock};
};

}  // namespace

TEST_CASE("a pause holds requests back until it is ended, once") {
  auto paused = Paused();
  CHECK_FALSE(paused.contained());
  paused.pause();
  CHECK(paused.contained());
  REQUIRE(paused.is_held_back(paused.client));
  CHECK_FALSE(paused.client.has_input());
  CHECK(paused.run(paused.pauses.end(*paused.server.target())));
  CHECK_FALSE(paused.contained());
  CHECK(paused.client.receive_reply(512).error == 0);
  CHECK_FALSE(paused.run(paused.pauses.end(*paused.server.target())));
}

TEST_CASE("a pause ends by itself when its time is up") {
  auto paused = Paused();
  paused.pause(0s);
  paused.wait_for_end();
  REQUIRE(paused.client.call(proto::Command::read, 0, 512).error == 0);
  CHECK_FALSE(paused.run(paused.pauses.end(*paused.server.target())));
}

TEST_CASE("a pause whose time is up while a change is under way ends after it") {
  auto paused = Paused();
  auto change = std::optional<ChangeLock::Guard>(std::in_place, paused.lock);
  paused.pause(0s);
  paused.poll();
  CHECK(paused.contained());
  change.reset();
  paused.wait_for_end();
}

TEST_CASE("the time of a pause that was ended says nothing about the next one") {
  auto paused = Paused();
  auto change = std::optional<ChangeLock::Guard>(std::in_place, paused.lock);
  paused.pause(0s);
  paused.poll();  // its time is up, and waits for the change
  CHECK(paused.run(paused.pauses.end(*paused.server.target())));
  paused.pause();
  change.reset();
  paused.poll();
  CHECK(paused.contained());
  CHECK_FALSE(paused.lock.held());
}

TEST_CASE("an export that does not come to rest is not paused") {
  auto paused = Paused();
  paused.server.faults().fail_syncs(EIO);
  CHECK_THROWS_AS(paused.pause(), UserError);
  CHECK_FALSE(paused.contained());
  CHECK(paused.client.call(proto::Command::read, 0, 512).error == 0);
}

TEST_CASE("a pause that comes to rest when the server ends already leaves its clients served") {
  auto paused = Paused();
  paused.server.faults().hold(engine::Faults::Hold::completions);
  paused.client.request(proto::Command::read, 1, 0, 512);
  REQUIRE(paused.server.faults().wait_for_held(1));
  auto beginning = paused.begin(paused.pauses.begin(paused.group(), "disk", 1h));
  paused.lock.close();
  paused.pauses.end_all();
  paused.server.faults().release_all();
  CHECK_THROWS_AS(paused.finish(std::move(beginning)), UserError);
  CHECK_FALSE(paused.contained());
  CHECK(paused.client.receive_reply(512).error == 0);
  CHECK(paused.client.call(proto::Command::read, 0, 512).error == 0);
}

TEST_CASE("the end of the server ends every pause without waiting") {
  auto paused = Paused();
  paused.pause();
  REQUIRE(paused.is_held_back(paused.client));
  paused.pauses.end_all();
  CHECK_FALSE(paused.contained());
  CHECK(paused.client.receive_reply(512).error == 0);
}
