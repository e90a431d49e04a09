#include "server/live/file_swap.h"

#include <catch2/catch.hpp>
#include <memory>

#include "server/base/user_error.h"
#include "test/server/live/described_device.h"

using server::Export;
using server::FileSwap;
using test::DescribedDevice;

namespace {

server::ExportConfig config() {
  auto config = server::ExportConfig{};
  config.name = "disk";
  config.path = "/srv/old.img";
  config.offset = 512;
  config.size = 8192;
  config.read_only = true;
  return config;
}

}  // namespace

TEST_CASE("a swap opens the new file as the export was configured") {
  const auto target = Export(config(), std::make_shared<DescribedDevice>(), server::Bounds{});
  auto swap = FileSwap("/srv/new.img");
  const auto wanted = swap.configure(target);
  CHECK(wanted.path == "/srv/new.img");
  CHECK(wanted.name == "disk");
  CHECK(wanted.offset == 512);
  CHECK(wanted.size == 8192);
  CHECK(wanted.read_only);
}

TEST_CASE("the file of a writable export is not swapped, whatever its configuration says") {
  const auto target = Export(
      config(), std::make_shared<DescribedDevice>(test::DeviceDescription{.read_only = false}),
      server::Bounds{});
  CHECK_THROWS_AS(FileSwap("/srv/new.img").configure(target), server::UserError);
  CHECK_THROWS_WITH(FileSwap("/srv/new.img").configure(target),
                    Catch::Contains("\"disk\" is writable"));
}

TEST_CASE("the new file may be any that has the size that clients know") {
  const auto old = std::make_shared<DescribedDevice>();
  const auto target = Export(config(), old, server::Bounds{});
  auto swap = FileSwap("/srv/new.img");
  swap.configure(target);
  CHECK_NOTHROW(
      swap.check(DescribedDevice({.store = "another file", .window_offset = 4096}), *old));
  for (const auto size : {std::uint64_t{8191}, std::uint64_t{8193}, std::uint64_t{0}}) {
    CAPTURE(size);
    CHECK_THROWS_WITH(swap.check(DescribedDevice({.size = size}), *old),
                      Catch::Contains("/srv/new.img has " + std::to_string(size) + " bytes") &&
                          Catch::Contains("export \"disk\" know 8192"));
  }
}

TEST_CASE("an export has the path of its new file once the swap is done, and not before") {
  auto target = Export(config(), std::make_shared<DescribedDevice>(), server::Bounds{});
  auto swap = FileSwap("/srv/new.img");
  swap.configure(target);
  CHECK(target.path() == "/srv/old.img");
  swap.commit(target);
  CHECK(target.path() == "/srv/new.img");
  CHECK(swap.describe(target) == "/srv/new.img from now on");
}
