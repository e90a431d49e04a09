#include "server/control/control_request.h"

#include <catch2/catch.hpp>
#include <string>

using server::ControlError;
using server::ControlRequest;

TEST_CASE("a control request gives up its arguments by name and type") {
  auto request = ControlRequest(
      R"({"command": "add", "export": "disk", "size": 4096, "read_only": true, "seconds": 0.5})");
  CHECK(request.command() == "add");
  CHECK(request.take_needed_text("export") == "disk");
  CHECK(request.take_number("size") == 4096);
  CHECK(request.take_flag("read_only"));
  CHECK_FALSE(request.take_flag("lock"));
  CHECK_FALSE(request.take_text("path").has_value());
  CHECK(request.take_real("seconds") == 0.5);
  CHECK_NOTHROW(request.finish());
}

TEST_CASE("a control request that is no object with a command is refused") {
  for (const auto* const line :
       {"", " ", "{", "nonsense", "[]", "17", "null", "\"status\"", "{}", R"({"command": 1})",
        R"({"command": "status"} more)", "{\"command\": \"\xff\"}"}) {
    CAPTURE(line);
    CHECK_THROWS_AS(ControlRequest(line), ControlError);
  }
}

TEST_CASE("a control request nested too deep is refused") {
  const auto deep = std::string(10'000, '[') + std::string(10'000, ']');
  CHECK_THROWS_AS(ControlRequest("{\"command\": \"x\", \"y\": " + deep + "}"), ControlError);
}

TEST_CASE("an argument of the wrong type is refused with its name") {
  auto request = ControlRequest(R"({"command": "x", "a": 1, "b": "two", "c": -3, "d": 1.5})");
  CHECK_THROWS_WITH(request.take_text("a"), Catch::Contains("\"a\""));
  CHECK_THROWS_WITH(request.take_number("b"), Catch::Contains("\"b\""));
  CHECK_THROWS_AS(request.take_number("c"), ControlError);
  CHECK_THROWS_AS(request.take_number("d"), ControlError);
  CHECK_THROWS_AS(request.take_flag("b"), ControlError);
  CHECK_THROWS_AS(request.take_real("b"), ControlError);
  CHECK_THROWS_WITH(request.take_needed_text("e"), Catch::Contains("missing"));
}

TEST_CASE("an argument that the command does not know is refused with its name") {
  auto request = ControlRequest(R"({"command": "status", "verbose": true})");
  CHECK_THROWS_WITH(request.finish(), Catch::Contains("verbose") && Catch::Contains("status"));
}

TEST_CASE("replies are single lines of JSON") {
  CHECK(server::encode_control_result({{"text", "a\nb"}}) ==
        "{\"ok\":true,\"result\":{\"text\":\"a\\nb\"}}\n");
  CHECK(server::encode_control_error("no \"disk\"") ==
        "{\"ok\":false,\"error\":\"no \\\"disk\\\"\"}\n");
}
