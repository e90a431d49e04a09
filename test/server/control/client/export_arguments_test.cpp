#include "server/control/client/export_arguments.h"

#include <CLI/CLI.hpp>
#include <boost/json/parse.hpp>
#include <boost/json/serialize.hpp>
#include <catch2/catch.hpp>

TEST_CASE("an export to add is written as in the file") {
  auto app = CLI::App();
  auto flags = server::KeyFlags<server::ExportConfig>(server::export_keys());
  flags.add_to(app);
  app.parse(std::vector<std::string>{"2", "--client-burst-seconds", "5", "--client-read-iops",
                                     "10.0.0.0/8", "--allow", "--no-lock", "4K", "--size", "3",
                                     "--writers"});
  auto arguments = boost::json::object{};
  put_export(arguments, {.name = "disk", .path = "/srv/disk.img"}, flags);
  CHECK(arguments == boost::json::parse(R"({
    "export": "disk", "path": "/srv/disk.img", "writers": 3, "size": 4096, "lock": false,
    "allow": ["10.0.0.0/8"], "client_limits": {"read_iops": 5, "burst_seconds": 2.0}
  })"));
}
