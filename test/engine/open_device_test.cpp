#include "engine/open_device.h"

#include <catch2/catch.hpp>

#include "test/engine/file_systems.h"

using namespace engine;
using namespace test;

TEST_CASE("a spec of a file opens that file, and needs nothing of the sandbox") {
  const TemporaryFile file(disk_folder(), 8192);
  const DeviceSpec spec = FileSpec{.path = file.path(), .offset = 4096};
  const auto device = open_device(spec);
  CHECK(device->size() == 4096);
  CHECK(device->window_offset() == 4096);
  const auto needs = sandbox_needs(spec);
  CHECK_FALSE(needs.io_uring);
  CHECK_FALSE(needs.outgoing_tcp);
}

TEST_CASE("a refusal names the field of the spec that is at fault") {
  const TemporaryFile file(disk_folder(), 8192);
  const auto fault = [&](const FileSpec& spec) -> std::string {
    try {
      open_device(spec);
      return "";
    } catch (const OpenError& error) {
      return std::string(error.option());
    }
  };
  CHECK(fault({.path = file.path() + "-missing"}) == "path");
  CHECK(fault({.path = file.path(), .offset = 8192}) == "offset");
  CHECK(fault({.path = file.path(), .size = 8193}) == "size");
}
