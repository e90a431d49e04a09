// Keeps the processors from sleeping so deeply that waking them takes long, while clients are at
// work: the CPU latency limit of the kernel (/dev/cpu_dma_latency, "PM QoS"). It holds for the
// whole machine, costs power but no processor time, and ends with the process. Used on the thread
// of its io_context.
#pragma once

#include <chrono>
#include <cstdint>
#include <functional>

#include "engine/file_descriptor.h"
#include "server/base/asio.h"

namespace server {

// Throws std::runtime_error with a message for people where there can be no limit.
engine::FileDescriptor open_wake_latency_device();

class WakeLatency {
 public:
  // `count_turns`: how often the workers have woken up so far; used until the io_context has
  // stopped. Throws like open_wake_latency_device().
  WakeLatency(asio::io_context& io_context, std::chrono::microseconds latency_max,
              std::function<std::uint64_t()> count_turns);

  // Begins to watch; once. No limit until clients are seen at work.
  void start();

 private:
  Awaitable<void> watch();
  void limit(std::chrono::microseconds latency);

  asio::io_context& io_context_;
  const std::chrono::microseconds latency_max_;
  const std::function<std::uint64_t()> count_turns_;
  const engine::FileDescriptor device_;
};

}  // namespace server
