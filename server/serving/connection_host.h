// The worker as its connections see it: it lends them pools, a clock and the way into devices, and
// is told what becomes of them. The host owns the pools and outlives its connections; all of them
// are used on its thread only.
#pragma once

#include <memory>

#include "engine/buffer_pool.h"
#include "engine/io.h"
#include "server/base/asio.h"
#include "server/base/metrics.h"
#include "server/config/bounds.h"
#include "server/export/export_queue.h"
#include "server/net/transport.h"
#include "server/serving/reply_queue.h"
#include "server/serving/request.h"

namespace server {

class Connection;

class ConnectionHost {
 public:
  ConnectionHost(const ConnectionHost&) = delete;
  ConnectionHost& operator=(const ConnectionHost&) = delete;

  const Bounds& bounds() const noexcept { return bounds_; }
  asio::io_context& io_context() noexcept { return io_context_; }
  engine::BufferPool& buffers() noexcept { return buffers_; }
  const engine::BufferPool& buffers() const noexcept { return buffers_; }
  RequestPool& requests() noexcept { return requests_; }
  GatherBuffer& gather_buffer() noexcept { return gather_buffer_; }
  // Connections that hold no memory wait for some: others take small portions, so that there is
  // something for each of them.
  bool scarce() const noexcept { return scarce_; }
  // The time when the latest batch was received, submitted, completed or sent.
  Clock::time_point now() const noexcept { return now_; }
  void read_clock() noexcept { now_ = Clock::now(); }

  virtual ExportQueue& queue_of(const Export& target) = 0;
  virtual void submit(ExportQueue& queue, engine::Io& io) noexcept = 0;
  // The connection is run before the turn ends.
  virtual void schedule(Connection& connection) = 0;
  // The connection is told when slots or buffers may have become free.
  virtual void wait_for_resources(Connection& connection) = 0;
  // A connection that may write takes no further requests. Before its transport is closed.
  virtual void note_ending(Connection& connection) = 0;
  // A connection that takes no further requests, or whose client is gone, can change nothing any
  // more: somebody may wait for that.
  virtual void note_spent(Connection& connection) = 0;
  // Nothing of the connection is in flight any more; it is destroyed when the turn ends. A
  // transport is closed gently, so that the last replies arrive.
  virtual void remove(Connection& connection, std::unique_ptr<Transport> transport) = 0;

 protected:
  explicit ConnectionHost(const Bounds& bounds);
  ~ConnectionHost() = default;
  void set_scarce(bool scarce) noexcept { scarce_ = scarce; }

 private:
  const Bounds bounds_;
  // The pools outlive the io_context, whose pending handlers may hold connections.
  engine::BufferPool buffers_;
  RequestPool requests_;
  GatherBuffer gather_buffer_;
  asio::io_context io_context_;
  Clock::time_point now_ = Clock::now();
  bool scarce_ = false;
};

}  // namespace server
