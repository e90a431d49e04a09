#include "server/export/open_export.h"

#include <catch2/catch.hpp>
#include <string>

#include "server/base/user_error.h"
#include "test/support/temporary_file.h"

namespace {

server::ExportConfig export_of(const std::string& path) {
  auto config = server::ExportConfig{};
  config.name = "disk";
  config.path = path;
  return config;
}

}  // namespace

TEST_CASE("an export is opened as its configuration says") {
  const auto file = test::TemporaryFile(std::string(10'000, 'x'));
  auto config = export_of(file.path());
  config.read_only = true;
  config.direct_io = engine::DirectIo::off;
  config.offset = 1000;
  config.size = 5000;
  const auto device = server::open_export(config);
  CHECK(device->geometry().read_only);
  CHECK(device->path() == engine::BlockDevice::Path::buffered);
  CHECK(device->window_offset() == 1000);
  CHECK(device->size() == 5000);
}

TEST_CASE("a refusal names the export and is for its user") {
  const auto file = test::TemporaryFile(std::string(10'000, 'x'));
  auto config = export_of(file.path() + "-missing");
  CHECK_THROWS_AS(server::open_export(config), server::UserError);
  CHECK_THROWS_WITH(server::open_export(config), Catch::Contains("export \"disk\""));
  CHECK_THROWS_AS(server::open_export_device(config, {}), engine::OpenError);

  config.path = file.path();
  config.partition = "1";
  CHECK_THROWS_AS(server::open_export(config), server::UserError);
}

TEST_CASE("exports of files need nothing of the sandbox") {
  const auto needs = server::sandbox_needs({export_of("a"), export_of("b")});
  CHECK_FALSE(needs.io_uring);
  CHECK_FALSE(needs.outgoing_tcp);
}
