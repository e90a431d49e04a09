#include "server/config/bounds.h"

#include <fmt/format.h>

#include <algorithm>
#include <thread>

#include "engine/buffer_pool.h"
#include "server/base/user_error.h"

namespace server {
namespace {

// A connection may hold half of what is free, and a piece takes one buffer of the largest class at
// most.
constexpr auto memory_min_per_worker = 4 * engine::buffer_size_max;

constexpr auto program_size = std::uint64_t{16} << 20;  // bytes

// In a container with a memory limit, at most half of what the program itself leaves. The other
// half is for what the kernel charges to the container beside it: socket buffers and page cache.
std::uint64_t derive_memory(std::uint32_t workers, const ContainerLimits& container) {
  const auto wanted = std::max(default_memory, std::uint64_t{workers} * memory_min_per_worker);
  if (!container.memory) return wanted;
  const auto left = *container.memory - std::min(*container.memory, program_size);
  return std::clamp<std::uint64_t>(left / 2, memory_min_per_worker, wanted);
}

// Bytes that a container is charged for one connection, beside its data in flight.
constexpr std::uint64_t connection_size = 8U << 10;  // that does nothing
constexpr std::uint64_t tls_size = 64U << 10;        // of OpenSSL, with half a record received
constexpr std::uint64_t send_buffer_min = 64U << 10;
constexpr std::uint64_t send_buffer_max = 2U << 20;
constexpr std::uint32_t connections_min = 16;

// Replies that clients have not read are in the kernel's memory, and a container is charged for
// that: what the data in flight leave of its limit is divided among the connections.
void bound_connections(Bounds& bounds, const Config& config) {
  bounds.connections_max = config.connections_max.value_or(default_connections);
  if (!bounds.container.memory) return;
  const auto limit = *bounds.container.memory;
  const auto left = limit - std::min(limit, bounds.memory + program_size);
  const auto each = connection_size + (config.tls.mode == proto::TlsMode::off ? 0 : tls_size);
  if (!config.connections_max)
    bounds.connections_max = static_cast<std::uint32_t>(std::clamp<std::uint64_t>(
        left / (each + send_buffer_min), connections_min, default_connections));
  const auto share = left / bounds.connections_max;
  bounds.send_buffer = static_cast<std::size_t>(
      std::clamp(share - std::min(share, each), send_buffer_min, send_buffer_max));
}

constexpr std::uint64_t memory_max = std::uint64_t{1} << 40;  // bytes
// In the kernel's hands at once, by all queues together, as long as they need not be too short for
// that: half of what Linux allows the whole system by default (fs.aio-max-nr).
constexpr std::size_t operations_wanted = 32768;
constexpr std::size_t queue_depth_min = 32;

}  // namespace

Bounds derive_bounds(const Config& config) {
  return derive_bounds(config, std::thread::hardware_concurrency(), read_container_limits());
}

Bounds derive_bounds(const Config& config, std::uint32_t processors,
                     const ContainerLimits& container) {
  auto bounds = Bounds{};
  bounds.container = container;
  const auto usable = std::min(processors, container.processors.value_or(processors));
  bounds.workers = config.stdio          ? 1
                   : config.workers != 0 ? config.workers
                                         : std::clamp(usable, 1U, workers_max);
  const auto memory = config.memory.value_or(derive_memory(bounds.workers, container));
  // Workers that nobody has asked for must not be what the memory is too little for.
  if (config.workers == 0)
    bounds.workers = std::min(bounds.workers, static_cast<std::uint32_t>(std::clamp<std::uint64_t>(
                                                  memory / memory_min_per_worker, 1, workers_max)));
  bounds.memory = static_cast<std::size_t>(memory);
  bounds.memory_per_worker = bounds.memory / bounds.workers;
  if (bounds.memory_per_worker < memory_min_per_worker)
    throw UserError(fmt::format(
        "memory = {} bytes is too little for {} worker{}: each needs at least {} MiB; "
        "raise the memory or lower the workers",
        memory, bounds.workers, bounds.workers == 1 ? "" : "s", memory_min_per_worker >> 20));
  if (memory > memory_max)
    throw UserError(fmt::format(
        "memory = {} bytes is more than {} GiB: it is for data in flight only, of which "
        "a client seldom has more than a few MiB",
        memory, memory_max >> 30));
  const auto queue_count =
      std::max<std::size_t>(1, config.exports.size()) * std::size_t{bounds.workers};
  bounds.queue_depth = static_cast<std::uint32_t>(std::clamp<std::size_t>(
      operations_wanted / queue_count, queue_depth_min, bounds.queue_depth));
  bound_connections(bounds, config);
  bounds.busy_poll = std::chrono::microseconds(config.busy_poll_us);
  if (config.slow_request_ms != 0)
    bounds.slow_request = std::chrono::milliseconds(config.slow_request_ms);
  bounds.handshakes_max_per_worker = std::max(16U, bounds.connections_max / 4 / bounds.workers);
  // nbdinfo --list asks a few options of each export in one connection.
  bounds.options_max = 1000 + 16 * static_cast<std::uint32_t>(config.exports.size());
  return bounds;
}

}  // namespace server
