// A worker's way into one export's device. Belongs to the worker and is used on its thread; only
// the queue inside may be made elsewhere and handed over before its first use.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>

#include "engine/block_device.h"
#include "engine/io_access.h"
#include "engine/io_queue.h"
#include "server/base/asio.h"
#include "server/export/export.h"

namespace server {

// Requests are laid out in memory for this alignment at least, so that a device with larger blocks
// can take over those that are under way.
inline constexpr std::uint32_t request_alignment = 4096;  // bytes

// A queue on its way to the worker that will use it, or from the one that did.
struct LooseQueue {
  std::shared_ptr<Export> target;
  std::shared_ptr<engine::BlockDevice> device;  // outlives `queue`
  std::unique_ptr<engine::IoQueue> queue;
};

// Throws what BlockDevice::make_queue() throws. Any thread.
LooseQueue make_queue(std::shared_ptr<Export> target, std::size_t depth_max);

struct ExportQueue {
  // `worker`: the index of the worker that it belongs to.
  ExportQueue(asio::io_context& io_context, LooseQueue loose, std::size_t worker);
  ~ExportQueue();

  std::shared_ptr<Export> target;
  std::shared_ptr<engine::BlockDevice> device;
  std::unique_ptr<engine::IoQueue> queue;
  ExportMetrics& metrics;  // of this worker
  Descriptor wakeup;       // the queue's file descriptor; not ours to close
  bool waiting = false;    // for a wake-up
  bool unflushed = false;  // something was submitted since the last flush
  bool active = false;     // listed in the worker's active queues
  bool closing = false;    // takes no connections any more
  bool retired = false;    // leaves the table, and goes with its last connection
  bool held = false;       // what is submitted waits in held_ios
  engine::IoList held_ios;
  std::size_t connection_count = 0;  // connections that may submit to it
  std::size_t slow_count = 0;        // requests under way for too long, when last looked

  // Nothing is in flight and no handler refers to it.
  bool is_quiet() const noexcept { return !active && !waiting; }
};

}  // namespace server
