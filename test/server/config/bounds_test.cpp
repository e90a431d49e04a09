#include "server/config/bounds.h"

#include <algorithm>
#include <catch2/catch.hpp>

#include "engine/buffer_pool.h"

TEST_CASE("the memory is divided among the workers and suffices for the largest pieces") {
  auto config = server::Config{};
  config.workers = 4;
  config.memory = 64U << 20;
  const auto bounds = server::derive_bounds(config);
  CHECK(bounds.memory_per_worker == 16U << 20);
  CHECK(bounds.memory_per_worker >= 4 * engine::buffer_size_max);
  CHECK(bounds.payload_length_max >= 32U << 20);
}

TEST_CASE("too little memory for the workers is refused with a remedy") {
  auto config = server::Config{};
  config.workers = 4;
  config.memory = 4U << 20;
  CHECK_THROWS_WITH(server::derive_bounds(config), Catch::Contains("raise the memory"));
}

TEST_CASE("more memory than any data in flight needs is refused") {
  auto config = server::Config{};
  config.memory = std::uint64_t{64} << 40;
  CHECK_THROWS_WITH(server::derive_bounds(config), Catch::Contains("1024 GiB"));
}

TEST_CASE("the queues of all workers and exports fit what Linux allows by default") {
  auto config = server::Config{};
  config.workers = 64;
  config.memory = 1U << 30;
  for (const auto export_count : {0U, 1U, 4U, 16U}) {
    CAPTURE(export_count);
    config.exports.resize(export_count);
    const auto bounds = server::derive_bounds(config);
    CHECK(bounds.queue_depth * bounds.workers * std::max(1U, export_count) < 65536);
    CHECK(bounds.queue_depth >= 32);
  }
  config.workers = 2;
  CHECK(server::derive_bounds(config).queue_depth == 256);
}

TEST_CASE("standard input and output are served by one worker") {
  auto config = server::Config{};
  config.stdio = true;
  config.workers = 8;
  CHECK(server::derive_bounds(config).workers == 1);
}

TEST_CASE("workers and memory follow the processors and the container") {
  constexpr auto MiB = std::uint64_t{1} << 20;
  struct Case {
    const char* name;
    std::uint32_t processors;
    server::ContainerLimits container;
    std::uint32_t workers;
    std::uint64_t memory;
  };
  for (const auto& [name, processors, container, workers, memory] : {
           Case{"no container", 2, {}, 2, 64 * MiB},
           Case{"many processors", 64, {}, 64, 256 * MiB},
           Case{"a CPU quota", 64, {{}, 2}, 2, 64 * MiB},
           Case{"a quota above the processors", 2, {{}, 8}, 2, 64 * MiB},
           Case{"much memory", 2, {1024 * MiB, {}}, 2, 64 * MiB},
           Case{"128 MiB", 2, {128 * MiB, {}}, 2, 56 * MiB},
           Case{"64 MiB for many processors", 64, {64 * MiB, {}}, 6, 24 * MiB},
           Case{"32 MiB", 2, {32 * MiB, 2}, 2, 8 * MiB},
           Case{"24 MiB", 2, {24 * MiB, 2}, 1, 4 * MiB},
           Case{"less than the program", 2, {1 * MiB, {}}, 1, 4 * MiB},
           Case{"processors unknown", 0, {}, 1, 64 * MiB},
       }) {
    CAPTURE(name);
    const auto bounds = server::derive_bounds({}, processors, container);
    CHECK(bounds.workers == workers);
    CHECK(bounds.memory == memory);
    CHECK(bounds.memory_per_worker >= 4 * engine::buffer_size_max);
  }
}

TEST_CASE("what is kept for the connections fits into what a container leaves") {
  constexpr auto MiB = std::uint64_t{1} << 20;
  for (const auto limit : {24 * MiB, 64 * MiB, 200 * MiB, 1024 * MiB, 8192 * MiB}) {
    for (const auto mode : {proto::TlsMode::off, proto::TlsMode::require}) {
      CAPTURE(limit, static_cast<int>(mode));
      auto config = server::Config{};
      config.tls.mode = mode;
      const auto bounds = server::derive_bounds(config, 2, {limit, {}});
      CHECK(bounds.connections_max >= 16);
      CHECK(bounds.connections_max <= 1000);
      CHECK(bounds.send_buffer >= 64U << 10);
      const auto tls = mode == proto::TlsMode::off ? 0U : 60U << 10;
      if (limit >= 64 * MiB)
        CHECK(16 * MiB + bounds.memory + bounds.connections_max * (bounds.send_buffer + tls) <=
              limit);
    }
  }
  CHECK(server::derive_bounds({}, 2, {}).send_buffer == 0);
  CHECK(server::derive_bounds({}, 2, {}).connections_max == 1000);
  auto config = server::Config{};
  config.connections_max = 5000;
  CHECK(server::derive_bounds(config, 2, {64 * MiB, {}}).connections_max == 5000);
}

TEST_CASE("what the configuration says goes before what the container suggests") {
  auto config = server::Config{};
  const auto container = server::ContainerLimits{32U << 20, 1};
  config.workers = 4;
  CHECK_THROWS_WITH(server::derive_bounds(config, 8, container), Catch::Contains("too little"));
  config.memory = 100U << 20;
  const auto bounds = server::derive_bounds(config, 8, container);
  CHECK(bounds.workers == 4);
  CHECK(bounds.memory == 100U << 20);
  config.workers = 0;
  config.memory = 8U << 20;
  CHECK(server::derive_bounds(config, 8, {}).workers == 2);
}
