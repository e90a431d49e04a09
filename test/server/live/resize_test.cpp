#include "server/live/resize.h"

#include <sys/stat.h>

#include <catch2/catch.hpp>
#include <memory>
#include <optional>
#include <string>

#include "server/base/user_error.h"
#include "server/export/open_export.h"
#include "test/support/temporary_file.h"

using server::Resize;

namespace {

struct ServedFile {
  explicit ServedFile(bool read_only = false, std::uint64_t offset = 0) {
    config.name = "disk";
    config.path = file.path();
    config.direct_io = engine::DirectIo::off;
    config.read_only = read_only;
    config.offset = offset;
    device = server::open_export(config);
    target = std::make_shared<server::Export>(config, device, server::Bounds{});
  }

  std::shared_ptr<engine::BlockDevice> open(const server::ExportConfig& other) {
    return server::open_export(other, {.predecessors = {device}});
  }
  off_t length() const {
    struct stat status {};
    REQUIRE(::stat(file.path().c_str(), &status) == 0);
    return status.st_size;
  }

  test::TemporaryFile file{std::string(8192, 'x')};
  server::ExportConfig config;
  std::shared_ptr<engine::BlockDevice> device;
  std::shared_ptr<server::Export> target;
};

}  // namespace

TEST_CASE("a resize makes the file of a writable export long enough, and never shorter") {
  auto served = ServedFile(false, 4096);
  auto larger = Resize(20000, false);
  larger.prepare(larger.configure(*served.target), *served.device);
  CHECK(served.length() == 24096);
  auto smaller = Resize(512, true);
  smaller.prepare(smaller.configure(*served.target), *served.device);
  CHECK(served.length() == 24096);
}

TEST_CASE("a resize leaves the file of a read-only export as it is") {
  auto served = ServedFile(true);
  auto resize = Resize(20000, false);
  resize.prepare(resize.configure(*served.target), *served.device);
  CHECK(served.length() == 8192);
}

TEST_CASE("no file is made longer than a file can be") {
  auto served = ServedFile();
  auto resize = Resize(std::uint64_t{1} << 63, false);
  const auto config = resize.configure(*served.target);
  CHECK_THROWS_WITH(resize.prepare(config, *served.device), Catch::Contains("cannot make"));
}

TEST_CASE("an export becomes smaller only by force") {
  auto served = ServedFile();
  for (const auto force : {false, true}) {
    auto resize = Resize(4096, force);
    const auto device = served.open(resize.configure(*served.target));
    if (force) {
      CHECK_NOTHROW(resize.check(*device, *served.device));
    } else {
      CHECK_THROWS_WITH(resize.check(*device, *served.device), Catch::Contains("4096 bytes"));
    }
  }
}

TEST_CASE("a resize keeps to the file that is served") {
  auto served = ServedFile();
  auto resize = Resize(20000, false);
  const auto config = resize.configure(*served.target);
  const auto old_path = served.file.path();
  const auto other = test::TemporaryFile("another file");
  REQUIRE(std::rename(other.path().c_str(), old_path.c_str()) == 0);
  CHECK_THROWS_WITH(resize.prepare(config, *served.device), Catch::Contains("is another file"));
}

TEST_CASE("the size of a partition is for its table to say") {
  auto served = ServedFile();
  auto config = served.config;
  config.partition = "1";
  const auto target = server::Export(config, served.device, server::Bounds{});
  auto resize = Resize(4096, false);
  CHECK_THROWS_WITH(resize.configure(target), Catch::Contains("partition table"));
  auto whole = Resize(std::nullopt, false);
  CHECK(whole.configure(target).partition == "1");
}
