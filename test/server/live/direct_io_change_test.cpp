#include "server/live/direct_io_change.h"

#include <catch2/catch.hpp>
#include <memory>

#include "server/base/user_error.h"
#include "test/server/live/described_device.h"

using engine::DirectIo;
using server::DirectIoChange;
using server::Export;
using test::DescribedDevice;

namespace {

server::ExportConfig config() {
  auto config = server::ExportConfig{};
  config.name = "disk";
  config.path = "/srv/configured.img";
  config.offset = 512;
  config.size = 4096;
  return config;
}

}  // namespace

TEST_CASE("direct I/O is put on or off over the file and the size of the moment") {
  auto target = Export(config(), std::make_shared<DescribedDevice>(), server::Bounds{});
  target.set_path("/srv/swapped.img");
  for (const auto on : {true, false}) {
    CAPTURE(on);
    const auto wanted = DirectIoChange(on).configure(target);
    CHECK(wanted.direct_io == (on ? DirectIo::on : DirectIo::off));
    CHECK(wanted.path == "/srv/swapped.img");
    CHECK(wanted.size == 8192);  // it was resized since it was configured
    CHECK(wanted.offset == 512);
  }
}

TEST_CASE("direct I/O changes only over the bytes that clients know") {
  const auto old = std::make_shared<DescribedDevice>();
  const auto target = Export(config(), old, server::Bounds{});
  auto change = DirectIoChange(false);
  change.configure(target);
  using Path = engine::BlockDevice::Path;
  CHECK_NOTHROW(change.check(DescribedDevice({.path = Path::buffered}), *old));
  for (const auto& other : {test::DeviceDescription{.store = "another file"},
                            test::DeviceDescription{.window_offset = 512}}) {
    CAPTURE(other.store, other.window_offset);
    CHECK_THROWS_WITH(change.check(DescribedDevice(other), *old),
                      Catch::Contains("/srv/configured.img is another file"));
  }
  CHECK_THROWS_WITH(change.check(DescribedDevice({.size = 4096}), *old),
                    Catch::Contains("has 4096 bytes for the export by now, after 8192: resize it"));
}

TEST_CASE("a change of direct I/O is described by what the device does now") {
  auto target = Export(config(), std::make_shared<DescribedDevice>(), server::Bounds{});
  const auto change = DirectIoChange(false);
  CHECK(change.describe(target) == "direct I/O from now on");
  target.set_device(std::make_shared<DescribedDevice>(
      test::DeviceDescription{.path = engine::BlockDevice::Path::buffered}));
  CHECK(change.describe(target) == "buffered I/O from now on");
}
