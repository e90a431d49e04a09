#include "server/control/export_request.h"

#include <catch2/catch.hpp>

using server::ControlError;
using server::ControlRequest;

namespace {

server::ExportConfig take(const std::string& arguments) {
  const auto request =
      ControlRequest(R"({"command": "add", "export": "disk", "path": "/srv/disk.img")" +
                     (arguments.empty() ? "" : ", " + arguments) + "}");
  request.check(server::export_request_arguments());
  return take_export(request);
}

}  // namespace

TEST_CASE("a request can give an export all its keys") {
  const auto entry = take(R"("description": "words", "read_only": true, "offset": "1K",
    "size": 2048, "partition": 3, "direct_io": "off", "lock": false, "tls": "require",
    "allow": ["10.0.0.0/8", "uid:5"], "read_only_for": ["psk:reader"], "writers": 2,
    "limits": {"read_iops": 10}, "client_limits": {"write_bytes": "1M", "burst_seconds": 2})");
  CHECK(entry.name == "disk");
  CHECK(entry.path == "/srv/disk.img");
  CHECK(entry.description == "words");
  CHECK(entry.read_only);
  CHECK(entry.offset == 1024);
  CHECK(entry.size == 2048);
  CHECK(entry.partition == "3");
  CHECK(entry.direct_io == engine::DirectIo::off);
  CHECK_FALSE(entry.lock);
  CHECK(entry.tls_required);
  CHECK(entry.access.allow.size() == 2);
  CHECK(entry.access.read_only_for.size() == 1);
  CHECK(entry.writers_max == 2);
  CHECK(entry.limits.read_iops == 10);
  CHECK(entry.client_limits.write_bytes == 1U << 20);
  CHECK(entry.client_limits.burst_seconds == 2);
}

TEST_CASE("a request that names only the file gives an export the defaults") {
  auto expected = server::ExportConfig{};
  expected.name = "disk";
  expected.path = "/srv/disk.img";
  CHECK(take("") == expected);
}

TEST_CASE("a wrong argument of an export is refused by its name") {
  struct Case {
    const char* arguments;
    const char* complaint;
  };
  for (const auto& [arguments, complaint] : {
           Case{R"("colour": 1)", "\"colour\" is not an argument of add"},
           Case{R"("name": "x")", "\"name\" is not an argument of add"},
           Case{R"("size": -1)", "\"size\": expected a size"},
           Case{R"("size": {})", "\"size\": expected a size"},
           Case{R"("writers": 0)", "\"writers\": expected a whole number from 1 to"},
           Case{R"("allow": [5])", "\"allow\": expected a list of clients"},
           Case{R"("allow": [])", "\"allow\": an empty list names nobody"},
           Case{R"("limits": 5)", "\"limits\": expected an object"},
           Case{R"("limits": {"colour": 1})", "\"limits.colour\" is not an argument of add"},
           Case{R"("limits": {"read_iops": 0})", "\"limits.read_iops\": expected more than 0"},
           Case{R"("path": 5)", "\"path\": expected a text"},
       }) {
    CAPTURE(arguments);
    CHECK_THROWS_WITH(take(arguments), Catch::Contains(complaint));
  }
  const auto request = ControlRequest(R"({"command": "add", "path": "/srv/disk.img"})");
  CHECK_THROWS_WITH(request.check(server::export_request_arguments()), "\"export\" is missing");
}
