#include "server/limits.h"

#include <fmt/format.h>

#include <algorithm>
#include <thread>

#include "engine/buffer_pool.h"

namespace server {

Limits derive_limits(const Config& config) {
  auto limits = Limits{};
  limits.workers = config.stdio ? 1
                   : config.workers != 0
                       ? config.workers
                       : std::clamp(std::thread::hardware_concurrency(), 1U, workers_max);
  // A connection may hold half of what is free, and a piece takes one buffer of the largest class
  // at most.
  constexpr auto memory_min_per_worker = 4 * engine::buffer_size_max;
  limits.memory_per_worker = static_cast<std::size_t>(config.memory / limits.workers);
  if (limits.memory_per_worker < memory_min_per_worker)
    throw ConfigError(
        fmt::format("memory = {} bytes is too little for {} workers: each needs at least {} MiB; "
                    "raise the memory or lower the workers",
                    config.memory, limits.workers, memory_min_per_worker >> 20));
  limits.connections_max = config.connections_max;
  limits.handshakes_max_per_worker = std::max(16U, config.connections_max / 4 / limits.workers);
  // nbdinfo --list asks a few options of each export in one connection.
  limits.options_max = 1000 + 16 * static_cast<std::uint32_t>(config.exports.size());
  return limits;
}

}  // namespace server
