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
#include "server/base/event.h"
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

class ExportQueue {
 public:
  // Its life, which only goes forward.
  enum class Phase : std::uint8_t {
    open,     // serves an export of the table
    retired,  // the export leaves the table; a client that has still chosen it is served
    closing,  // takes no connections any more
  };

  // `worker`: the index of the worker that it belongs to.
  ExportQueue(asio::io_context& io_context, LooseQueue loose, std::size_t worker);
  ~ExportQueue();
  ExportQueue(const ExportQueue&) = delete;
  ExportQueue& operator=(const ExportQueue&) = delete;

  const std::shared_ptr<Export>& target() const noexcept { return target_; }
  const std::shared_ptr<engine::BlockDevice>& device() const noexcept { return device_; }
  ExportMetrics& metrics() const noexcept { return metrics_; }  // of this worker
  std::size_t in_flight() const noexcept { return queue_->in_flight(); }

  Phase phase() const noexcept { return phase_; }
  // From open.
  void retire() noexcept;
  // From retired.
  void close() noexcept;
  // Connections that may submit to it.
  std::size_t connection_count() const noexcept { return connection_count_; }
  void add_connection() noexcept;
  void remove_connection() noexcept;
  // Gives the device and its queue back. From retired or closing, quiet, without connections, and
  // not held; after that it is only destroyed.
  LooseQueue take() noexcept;

  // Queues the operation for the next flush(), or keeps it until resume() while the queue is held.
  // True: the queue has become active.
  bool submit(engine::Io& io) noexcept;
  // Something was submitted since the last flush().
  bool unflushed() const noexcept { return unflushed_; }
  void flush() noexcept;
  // How many operations have completed.
  std::size_t harvest() noexcept { return queue_->harvest(); }
  // Active: submitted operations have not completed. False: it has become inactive.
  bool update_active() noexcept;
  bool active() const noexcept { return active_; }
  // Nothing is in flight and no handler refers to it.
  bool quiet() const noexcept { return !active_ && !waiting_; }
  // Wakes the thread when an operation may have completed. While the queue is held, `rest` is
  // signalled then; it outlives the queue.
  void wait_for_completion(Event& rest);
  // Nothing is in flight, but a wake-up is waited for: end that.
  void cancel_wait();

  // From now on, what is submitted is kept back.
  void hold() noexcept;
  bool held() const noexcept { return held_; }
  // While held and quiet: exchanges its device and queue for those of `loose`.
  void exchange(LooseQueue& loose);
  // Without connections and inactive: gives back what the kernel holds for the queue until there is
  // something to do again.
  void suspend() noexcept;

  // Ends hold(). Gives what was kept back, in the order in which it was submitted.
  engine::IoList resume() noexcept;

  // A request that has been under way for too long was found.
  void count_slow_request() noexcept { ++slow_count_; }
  // How many since the last call.
  std::size_t take_slow_count() noexcept;

 private:
  bool invariants() const noexcept;

  asio::io_context& io_context_;
  std::shared_ptr<Export> target_;
  std::shared_ptr<engine::BlockDevice> device_;
  std::unique_ptr<engine::IoQueue> queue_;
  ExportMetrics& metrics_;
  Descriptor wakeup_;  // the queue's file descriptor; not ours to close
  Phase phase_ = Phase::open;
  bool waiting_ = false;    // for a wake-up
  bool unflushed_ = false;  // something was submitted since the last flush
  bool active_ = false;
  bool held_ = false;
  engine::IoList held_ios_;
  std::size_t connection_count_ = 0;
  std::size_t slow_count_ = 0;
};

}  // namespace server
