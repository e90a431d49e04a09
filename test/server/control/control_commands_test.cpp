#include "server/control/control_commands.h"

#include <boost/asio/use_future.hpp>
#include <boost/json/parse.hpp>
#include <boost/json/serialize.hpp>
#include <catch2/catch.hpp>
#include <set>
#include <utility>

#include "server/control/control_targets.h"
#include "test/support/temporary_file.h"

namespace {

namespace json = boost::json;

// The targets of commands: an export of a file, no worker, and a server that only remembers what
// it was told.
class Targets {
 public:
  Targets() {
    auto config = server::ExportConfig{};
    config.name = "disk";
    config.path = disk_.path();
    exports_.open({config});
  }

  json::object ask(const json::object& request) {
    auto answering =
        server::answer_control_request(targets_, json::serialize(json::value(request)));
    auto line = server::asio::co_spawn(io_context_, std::move(answering), server::asio::use_future);
    io_context_.restart();
    io_context_.run();
    return json::parse(line.get()).as_object();
  }
  json::object result(const json::object& request) {
    auto reply = ask(request);
    INFO(json::serialize(json::value(reply)));
    REQUIRE(reply.at("ok").as_bool());
    return reply.at("result").as_object();
  }
  std::string refusal(const json::object& request) {
    const auto reply = ask(request);
    REQUIRE_FALSE(reply.at("ok").as_bool());
    return std::string(reply.at("error").as_string());
  }

  server::LiveExports& exports() noexcept { return exports_; }
  const std::string& path() const noexcept { return disk_.path(); }

  std::vector<server::Departure> reloads;
  bool stopped = false;

 private:
  server::Awaitable<server::Reloaded> reload(server::Departure departure) {
    reloads.push_back(departure);
    auto reloaded = server::Reloaded{};
    reloaded.exports.added = {"new"};
    reloaded.need_restart = {"workers", "user"};
    co_return reloaded;
  }
  static server::Awaitable<server::ServerStatus> status() {
    auto status = server::ServerStatus{};
    status.version = "1.2.3";
    auto& worker = status.workers.emplace_back();
    worker.clients.emplace_back().id = 7;
    co_return status;
  }

  test::TemporaryFile disk_{std::string(1U << 20, 'd')};
  server::asio::io_context io_context_{1};
  const server::Bounds bounds_ = server::derive_bounds(server::Config{});
  const server::TlsConfig tls_;
  engine::BlockingPool pool_{1};
  server::Workers workers_;
  server::LiveExports exports_{bounds_, io_context_, pool_, workers_};
  const server::ControlTargets targets_{
      .exports = exports_,
      .tls = tls_,
      .reload = [this](server::Departure departure) { return reload(departure); },
      .status = [](std::chrono::milliseconds) { return status(); },
      .stop = [this] { stopped = true; }};
};

}  // namespace

TEST_CASE("each command of the table has a name of its own, and arguments that can be given") {
  auto names = std::set<std::string>{};
  for (const auto& command : server::control_commands()) {
    CAPTURE(command.name);
    CHECK(names.insert(command.name).second);
    CHECK_FALSE(command.help.empty());
    CHECK(command.perform != nullptr);
    for (const auto& argument : command.arguments) {
      CAPTURE(argument.name);
      CHECK_FALSE(argument.name.empty());
    }
  }
}

TEST_CASE("a command that is none is refused with those that there are") {
  auto targets = Targets();
  const auto refusal = targets.refusal({{"command", "dance"}});
  for (const auto& command : server::control_commands())
    CHECK_THAT(refusal, Catch::Contains(command.name));
}

TEST_CASE("what is no request is answered, too") {
  auto targets = Targets();
  CHECK_THAT(targets.refusal({}), Catch::Contains("command"));
  CHECK_THAT(targets.refusal({{"command", "status"}, {"size", 1}}), Catch::Contains("size"));
}

TEST_CASE("status and connections are the server's") {
  auto targets = Targets();
  CHECK(targets.result({{"command", "status"}}).at("version").as_string() == "1.2.3");
  const auto shown = targets.result({{"command", "connections"}});
  CHECK(shown.size() == 1);
  CHECK(shown.at("connections").as_array().at(0).at("id").to_number<int>() == 7);
}

TEST_CASE("a reload says what it has changed and what it could not") {
  auto targets = Targets();
  const auto reloaded = targets.result({{"command", "reload"}});
  CHECK(reloaded.at("added").as_array() == json::array{"new"});
  CHECK(reloaded.at("need_restart").as_array() == json::array{"workers", "user"});
  CHECK_THAT(std::string(reloaded.at("text").as_string()), Catch::Contains("workers, user"));
  targets.result({{"command", "reload"}, {"departure", "drain"}});
  CHECK(targets.reloads == std::vector{server::Departure::keep, server::Departure::drain});
  CHECK_THAT(targets.refusal({{"command", "reload"}, {"departure", "soon"}}),
             Catch::Contains("keep, drain, now"));
}

TEST_CASE("exports are added to the list and removed from it") {
  auto targets = Targets();
  const auto another = test::TemporaryFile(std::string(4096, 'n'));
  targets.result({{"command", "add"}, {"export", "new"}, {"path", another.path()}});
  CHECK(targets.exports().table()->all().size() == 2);
  CHECK_THAT(targets.refusal({{"command", "add"}, {"path", another.path()}}),
             Catch::Contains("\"export\" is missing"));
  targets.result({{"command", "remove"}, {"export", "new"}});
  CHECK(targets.exports().table()->all().size() == 1);
  CHECK_THAT(targets.refusal({{"command", "remove"}, {"export", "new"}}),
             Catch::Contains("no export"));
}

TEST_CASE("connections to be ended are named in exactly one way") {
  auto targets = Targets();
  CHECK_THAT(targets.refusal({{"command", "disconnect"}}), Catch::Contains("one of"));
  CHECK_THAT(targets.refusal({{"command", "disconnect"}, {"connection", 1}, {"export", "disk"}}),
             Catch::Contains("one of"));
  CHECK_THAT(targets.refusal({{"command", "disconnect"}, {"connection", 1}}),
             Catch::Contains("no connection 1"));
  CHECK(targets.result({{"command", "disconnect"}, {"export", "disk"}}).at("count") == 0);
}

TEST_CASE("a drain of one export leaves the server, one of all ends it") {
  auto targets = Targets();
  targets.result({{"command", "drain"}, {"export", "disk"}});
  CHECK_FALSE(targets.stopped);
  targets.result({{"command", "drain"}});
  CHECK(targets.stopped);
}

TEST_CASE("limits that are not named stay") {
  auto targets = Targets();
  targets.result({{"command", "limit"}, {"export", "disk"}, {"read_iops", 5}});
  targets.result({{"command", "limit"}, {"export", "disk"}, {"write_iops", 6}});
  targets.result(
      {{"command", "limit"}, {"export", "disk"}, {"per_client", true}, {"read_bytes", 7}});
  const auto& limiter = targets.exports().find("disk")->limiter();
  CHECK(limiter.all().read_iops == 5);
  CHECK(limiter.all().write_iops == 6);
  CHECK(limiter.all().read_bytes == 0);
  CHECK(limiter.each_client().read_bytes == 7);
  CHECK_THAT(targets.refusal({{"command", "limit"}, {"export", "disk"}, {"burst_seconds", 1e9}}),
             Catch::Contains("burst_seconds"));
}

TEST_CASE("an export is paused, resized and resumed") {
  auto targets = Targets();
  CHECK_THAT(targets.refusal({{"command", "pause"}, {"export", "disk"}, {"seconds", 3601}}),
             Catch::Contains("from 1 to 3600"));
  CHECK_THAT(targets.refusal({{"command", "resume"}, {"export", "disk"}}),
             Catch::Contains("paused"));
  CHECK(targets.result({{"command", "resize"}, {"export", "disk"}, {"size", 2U << 20}})
            .at("size")
            .to_number<std::uint64_t>() == 2U << 20);
  CHECK_THAT(targets.refusal({{"command", "resize"}, {"export", "other"}}),
             Catch::Contains("no export"));
  CHECK_THAT(targets.refusal({{"command", "direct-io"}, {"export", "disk"}, {"mode", "auto"}}),
             Catch::Contains("one of on, off"));
}
