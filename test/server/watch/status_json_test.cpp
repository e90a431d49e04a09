#include "server/watch/status_json.h"

#include <boost/json/array.hpp>
#include <catch2/catch.hpp>

#include "test/server/watch/example_status.h"

TEST_CASE("the JSON of a status has the values of its parts") {
  const auto status = test::example_status();
  const auto json = server::json_of(status);
  CHECK(json.at("version") == "1.2.3");
  CHECK(json.at("uptime_ms") == 4500);
  CHECK(json.at("listen") == boost::json::array{"127.0.0.1:10809"});
  CHECK(json.at("memory_in_use_bytes") == 30);
  const auto& worker = json.at("workers").at(0);
  CHECK(worker.at("responding") == true);
  CHECK(worker.at("turns") == 17);
  CHECK(worker.at("buffer_waits") == 3);
  const auto& connection = json.at("connections").at(0);
  CHECK(connection.at("id") == 7);
  CHECK(connection.at("export") == "disk");
  CHECK(connection.at("age_ms") == 250);
  CHECK(connection.at("latency_sum_us") == 1.5);
  const auto& target = json.at("exports").at(0);
  CHECK(target.at("name") == "disk");
  CHECK(target.at("block_size_bytes") == 512);
  CHECK(target.at("sync_failed") == true);
  CHECK(target.at("tls_connections_total") == 2);
  CHECK(target.at("limits").at("read_iops") == 100);
}

TEST_CASE("the JSON has the commands that were used, with the errors that there were") {
  const auto json = server::json_of(test::example_status());
  const auto& commands = json.at("exports").at(0).at("commands").as_array();
  REQUIRE(commands.size() == 1);
  CHECK(commands[0].at("command") == "READ");
  CHECK(commands[0].at("requests") == 2);
  CHECK(commands[0].at("errors") == boost::json::object{{"EIO", 1}});
  const auto& device = commands[0].at("device");
  CHECK(device.at("sum_us") == 3.0);
  CHECK(device.at("mean_us") == 1.5);
  CHECK(device.at("p99_us").as_double() >= 1.5);
  CHECK(commands[0].at("send").at("mean_us").to_number<double>() == 0);
}
