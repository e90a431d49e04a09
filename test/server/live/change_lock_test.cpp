#include "server/live/change_lock.h"

#include <catch2/catch.hpp>
#include <string>

#include "server/base/user_error.h"

using server::ChangeLock;

namespace {

server::Awaitable<void> change(ChangeLock& lock, std::string& log, std::string name,
                               server::Event& finish) {
  try {
    co_await lock.wait_for_turn();
  } catch (const server::UserError& error) {
    log += name + " is refused: " + error.what() + ";";
    co_return;
  }
  const auto guard = ChangeLock::Guard(lock);
  log += name + " begins;";
  co_await finish.wait();
  log += name + " ends;";
}

struct Changes {
  void begin(const std::string& name) {
    server::asio::co_spawn(io_context, change(lock, log, name, finish), server::asio::detached);
    io_context.poll();
  }
  void finish_one() {
    finish.signal();
    io_context.poll();
  }

  server::asio::io_context io_context{1};
  ChangeLock lock{io_context};
  server::Event finish{io_context};
  std::string log;
};

}  // namespace

TEST_CASE("changes happen one after the other") {
  auto changes = Changes();
  for (const auto* const name : {"a", "b", "c"}) changes.begin(name);
  CHECK(changes.log == "a begins;");
  CHECK(changes.lock.held());
  for (auto count = 0; count < 3; ++count) changes.finish_one();
  CHECK(changes.log.size() == 3 * std::string("a begins;a ends;").size());
  CHECK(changes.log.starts_with("a begins;a ends;"));
  CHECK_FALSE(changes.lock.held());
}

TEST_CASE("no change begins once the server ends, but the one under way finishes") {
  auto changes = Changes();
  changes.begin("a");
  changes.begin("b");
  changes.lock.close();
  changes.begin("c");
  changes.finish_one();
  CHECK(changes.log ==
        "a begins;a ends;b is refused: the server is ending;"
        "c is refused: the server is ending;");
  CHECK_FALSE(changes.lock.held());
}
