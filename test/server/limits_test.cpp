#include "server/limits.h"

#include <catch2/catch.hpp>

#include "engine/buffer_pool.h"

TEST_CASE("the memory is divided among the workers and suffices for the largest pieces") {
  auto config = server::Config{};
  config.workers = 4;
  config.memory = 64U << 20;
  const auto limits = server::derive_limits(config);
  CHECK(limits.memory_per_worker == 16U << 20);
  CHECK(limits.memory_per_worker >= 4 * engine::buffer_size_max);
  CHECK(limits.payload_length_max >= 32U << 20);
}

TEST_CASE("too little memory for the workers is refused with a remedy") {
  auto config = server::Config{};
  config.workers = 4;
  config.memory = 4U << 20;
  CHECK_THROWS_WITH(server::derive_limits(config), Catch::Contains("raise the memory"));
}

TEST_CASE("standard input and output are served by one worker") {
  auto config = server::Config{};
  config.stdio = true;
  config.workers = 8;
  CHECK(server::derive_limits(config).workers == 1);
}
