#include "server/control/control_request.h"

#include <catch2/catch.hpp>
#include <string>
#include <vector>

using server::ControlArgument;
using server::ControlError;
using server::ControlRequest;

TEST_CASE("a control request gives up its arguments by name and type") {
  const auto request = ControlRequest(
      R"({"command": "add", "export": "disk", "size": 4096, "read_only": true, "seconds": 0.5})");
  CHECK(request.command() == "add");
  CHECK(request.take_needed_text("export") == "disk");
  CHECK(request.take_number("size") == 4096);
  CHECK(request.take_flag("read_only"));
  CHECK_FALSE(request.take_flag("lock"));
  CHECK_FALSE(request.take_text("path").has_value());
  CHECK(request.take_real("seconds") == 0.5);
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
  const auto request = ControlRequest(R"({"command": "x", "a": 1, "b": "two", "c": -3, "d": 1.5})");
  CHECK_THROWS_WITH(request.take_text("a"), Catch::Contains("\"a\""));
  CHECK_THROWS_WITH(request.take_number("b"), Catch::Contains("\"b\""));
  CHECK_THROWS_AS(request.take_number("c"), ControlError);
  CHECK_THROWS_AS(request.take_number("d"), ControlError);
  CHECK_THROWS_AS(request.take_flag("b"), ControlError);
  CHECK_THROWS_AS(request.take_real("b"), ControlError);
  CHECK_THROWS_WITH(request.take_needed_text("e"), Catch::Contains("missing"));
}

TEST_CASE("a request is checked against the arguments of its command") {
  using Kind = ControlArgument::Kind;
  const auto known = std::vector<ControlArgument>{
      {.name = "export", .needed = true},
      {.name = "seconds", .kind = Kind::number, .number_min = 1, .number_max = 60},
      {.name = "mode", .choices = {"on", "off"}},
      {.name = "force", .kind = Kind::flag},
      {.name = "factor", .kind = Kind::real},
  };
  const auto check = [&](const std::string& more) {
    ControlRequest(R"({"command": "pause", "export": "disk")" + more + "}").check(known);
  };
  CHECK_NOTHROW(check(""));
  CHECK_NOTHROW(check(R"(, "seconds": 60, "mode": "off", "force": true, "factor": 0.5)"));
  CHECK_THROWS_WITH(check(R"(, "verbose": true)"),
                    Catch::Contains("\"verbose\" is not an argument of pause") &&
                        Catch::Contains("export, seconds, mode, force, factor"));
  CHECK_THROWS_WITH(check(R"(, "seconds": 0)"), Catch::Contains("from 1 to 60"));
  CHECK_THROWS_WITH(check(R"(, "seconds": "1")"), Catch::Contains("\"seconds\""));
  CHECK_THROWS_WITH(check(R"(, "mode": "auto")"), Catch::Contains("one of on, off"));
  CHECK_THROWS_WITH(check(R"(, "force": 1)"), Catch::Contains("\"force\""));
  CHECK_THROWS_WITH(check(R"(, "factor": "1")"), Catch::Contains("\"factor\""));
  CHECK_THROWS_WITH(ControlRequest(R"({"command": "pause"})").check(known),
                    Catch::Contains("\"export\" is missing"));
  CHECK_THROWS_WITH(ControlRequest(R"({"command": "status", "x": 1})").check({}),
                    Catch::Contains("there are none"));
}

TEST_CASE("of arguments that exclude each other exactly one is given") {
  const auto known = std::vector<ControlArgument>{{.name = "a"}, {.name = "b"}};
  CHECK_NOTHROW(ControlRequest(R"({"command": "x", "a": "1"})").check(known, true));
  CHECK_THROWS_WITH(ControlRequest(R"({"command": "x"})").check(known, true),
                    Catch::Contains("one of a, b"));
  CHECK_THROWS_WITH(ControlRequest(R"({"command": "x", "a": "1", "b": "2"})").check(known, true),
                    Catch::Contains("one of a, b"));
}

TEST_CASE("replies are single lines of JSON") {
  CHECK(server::encode_control_result({{"text", "a\nb"}}) ==
        "{\"ok\":true,\"result\":{\"text\":\"a\\nb\"}}\n");
  CHECK(server::encode_control_error("no \"disk\"") ==
        "{\"ok\":false,\"error\":\"no \\\"disk\\\"\"}\n");
}
