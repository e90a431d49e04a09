#include "server/live/export_changes.h"

#include <catch2/catch.hpp>
#include <memory>
#include <string>
#include <vector>

#include "server/base/user_error.h"
#include "server/export/open_export.h"
#include "test/support/temporary_file.h"

using server::Export;
using server::ExportConfig;
using Names = std::vector<std::string>;

namespace {

struct Plan {
  explicit Plan(const std::vector<ExportConfig>& present) {
    bounds.workers = 3;
    auto exports = std::vector<std::shared_ptr<Export>>{};
    for (const auto& config : present) exports.push_back(open(config));
    table = std::make_shared<const server::ExportTable>(std::move(exports));
  }

  std::shared_ptr<Export> open(const ExportConfig& config) {
    return std::make_shared<Export>(config, server::open_export(config), bounds);
  }
  server::ExportChanges change(std::vector<ExportConfig> configs) {
    return server::plan_changes(*table, gone, std::move(configs), bounds);
  }

  server::Bounds bounds;
  std::shared_ptr<const server::ExportTable> table;
  std::vector<std::shared_ptr<Export>> gone;
};

ExportConfig config_of(const std::string& name, const test::TemporaryFile& file) {
  auto config = ExportConfig{};
  config.name = name;
  config.path = file.path();
  config.direct_io = engine::DirectIo::off;
  return config;
}

const auto content = std::string(8192, 'x');

}  // namespace

TEST_CASE("an export whose configuration is the same stays the same object") {
  const auto file = test::TemporaryFile(content);
  auto plan = Plan({config_of("a", file)});
  const auto changes = plan.change({config_of("a", file)});
  CHECK(changes.table->all() == plan.table->all());
  CHECK(changes.opened.empty());
  CHECK(changes.retired.empty());
  CHECK(changes.displaced.empty());
  CHECK(changes.names.empty());
}

TEST_CASE("exports are added and removed by name, and each worker gets a queue of what is new") {
  const auto one = test::TemporaryFile(content);
  const auto other = test::TemporaryFile(content);
  const auto third = test::TemporaryFile(content);
  auto plan = Plan({config_of("a", one), config_of("b", other)});
  const auto changes = plan.change({config_of("b", other), config_of("c", third)});
  CHECK(changes.names.added == Names{"c"});
  CHECK(changes.names.removed == Names{"a"});
  CHECK(changes.names.changed.empty());
  CHECK(changes.retired == std::vector{plan.table->find("a")});
  CHECK(changes.table->find("b") == plan.table->find("b"));
  REQUIRE(changes.queues.size() == plan.bounds.workers);
  for (const auto& queues : changes.queues) {
    REQUIRE(queues.size() == 1);
    CHECK(queues.front().target == changes.table->find("c"));
    CHECK(queues.front().queue != nullptr);
  }
}

TEST_CASE("an export that is only offered in another way keeps the device and what was counted") {
  const auto file = test::TemporaryFile(content);
  auto plan = Plan({config_of("a", file)});
  const auto before = plan.table->find("a");
  auto config = config_of("a", file);
  config.description = "another";
  const auto changes = plan.change({config});
  CHECK(changes.names.changed == Names{"a"});
  REQUIRE(changes.opened.size() == 1);
  const auto& after = *changes.opened.front();
  CHECK(&after != before.get());
  CHECK(after.device() == before->device());
  CHECK(after.shares_device(*before));
  CHECK(after.metrics().data() == before->metrics().data());
  CHECK(changes.displaced.empty());
  CHECK_FALSE(after.replaces(*before));
}

TEST_CASE("a file that is served in another way displaces the exports of the old way") {
  const auto file = test::TemporaryFile(content);
  auto plan = Plan({config_of("a", file)});
  const auto before = plan.table->find("a");
  auto config = config_of("a", file);
  config.size = 4096;
  const auto changes = plan.change({config});
  REQUIRE(changes.opened.size() == 1);
  const auto& after = *changes.opened.front();
  CHECK(after.device() != before->device());
  CHECK(changes.displaced == std::vector{before});
  CHECK(after.replaces(*before));
  CHECK_FALSE(after.shares_device(*before));
}

TEST_CASE("two read-only ways of one file get along") {
  const auto file = test::TemporaryFile(content);
  auto config = config_of("a", file);
  config.read_only = true;
  auto plan = Plan({config});
  config.size = 4096;
  CHECK(plan.change({config}).displaced.empty());
}

TEST_CASE("an export that has left the table and still has clients is displaced, too") {
  const auto file = test::TemporaryFile(content);
  auto plan = Plan({});
  plan.gone.push_back(plan.open(config_of("a", file)));
  auto config = config_of("b", file);
  config.offset = 4096;
  const auto changes = plan.change({config});
  CHECK(changes.displaced == plan.gone);
  CHECK(changes.retired.empty());
  CHECK(changes.names.added == Names{"b"});
}

TEST_CASE("a device that has given way is not used again, though it still has clients") {
  const auto file = test::TemporaryFile(content);
  auto plan = Plan({config_of("a", file)});
  const auto first = plan.table->find("a");
  auto config = config_of("a", file);
  config.read_only = true;
  auto changes = plan.change({config});
  server::claim_devices(changes);
  server::commit_devices(changes);
  plan.table = changes.table;
  plan.gone.push_back(first);
  changes = plan.change({config_of("a", file)});
  REQUIRE(changes.opened.size() == 1);
  CHECK(changes.opened.front()->device() != first->device());
}

TEST_CASE("an export waits for all that its predecessor has had to wait for") {
  const auto file = test::TemporaryFile(content);
  auto plan = Plan({config_of("a", file)});
  const auto first = plan.table->find("a");
  auto config = config_of("a", file);
  config.size = 4096;
  auto changes = plan.change({config});
  plan.table = changes.table;
  config.description = "another";
  changes = plan.change({config});
  REQUIRE(changes.opened.size() == 1);
  CHECK(changes.opened.front()->replaces(*first));
}

TEST_CASE("a plan that cannot be made names the export") {
  const auto file = test::TemporaryFile(content);
  auto plan = Plan({config_of("a", file)});
  auto missing = config_of("b", file);
  missing.path = "/does/not/exist";
  CHECK_THROWS_WITH(plan.change({config_of("a", file), missing}),
                    Catch::Contains("export \"b\"") && Catch::Contains("/does/not/exist"));
}
