#include "server/attach/attach_command.h"

#include <catch2/catch.hpp>
#include <string>
#include <vector>

#include "server/base/user_error.h"
#include "server/command_line.h"

namespace {

auto parse(std::vector<const char*> arguments) {
  arguments.insert(arguments.begin(), "loopnbd");
  return server::parse_command_line(static_cast<int>(arguments.size()), arguments.data());
}

template <typename Command>
Command parse_as(const std::vector<const char*>& arguments) {
  const auto command = parse(arguments);
  REQUIRE(std::holds_alternative<server::AttachCommand>(command));
  return std::get<Command>(std::get<server::AttachCommand>(command));
}

}  // namespace

TEST_CASE("attach takes a file and keeps its defaults") {
  const auto attach = parse_as<server::Attach>({"attach", "disk.img"});
  CHECK(attach.source == "disk.img");
  CHECK_FALSE(attach.device);
  CHECK(attach.connections == 1);
  CHECK(attach.block_size == 512);
  CHECK_FALSE(attach.timeout_s);
  CHECK(attach.dead_timeout_s == 300);
  CHECK_FALSE(attach.read_only);
  CHECK_FALSE(attach.foreground);
}

TEST_CASE("attach takes all of its options") {
  const auto attach = parse_as<server::Attach>(
      {"attach", "--device", "/dev/nbd7", "--connections", "4", "--read-only", "--block-size",
       "4096", "--timeout", "5", "--dead-timeout", "60", "--foreground", "nbd://host/disk"});
  CHECK(attach.source == "nbd://host/disk");
  CHECK(attach.device == 7);
  CHECK(attach.connections == 4);
  CHECK(attach.block_size == 4096);
  CHECK(attach.timeout_s == 5);
  CHECK(attach.dead_timeout_s == 60);
  CHECK(attach.read_only);
  CHECK(attach.foreground);
}

TEST_CASE("what attach cannot do is refused") {
  CHECK_THROWS_WITH(parse({"attach", "--device", "/dev/sda", "disk.img"}),
                    Catch::Contains("/dev/sda") && Catch::Contains("/dev/nbd0"));
  for (const auto& wrong :
       std::vector<std::vector<const char*>>{{"attach"},
                                             {"attach", "--block-size", "1024", "disk.img"},
                                             {"attach", "--connections", "0", "disk.img"},
                                             {"attach", "--connections", "17", "disk.img"},
                                             {"attach", "--timeout", "0", "disk.img"},
                                             {"attach", "a.img", "b.img"},
                                             {"detach"}}) {
    const auto command = parse(wrong);
    REQUIRE(std::holds_alternative<server::Exit>(command));
    CHECK(std::get<server::Exit>(command).status == 2);
  }
}

TEST_CASE("detach and devices are told apart") {
  CHECK(parse_as<server::Detach>({"detach", "/dev/nbd3"}).device == 3);
  CHECK_THROWS_WITH(parse({"detach", "disk.img"}), Catch::Contains("no NBD device"));
  CHECK(parse_as<server::ListDevices>({"devices", "--json"}).json);
  CHECK_FALSE(parse_as<server::ListDevices>({"devices"}).json);
}
