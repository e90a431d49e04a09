// Workers over an export in memory that can be made to behave badly, and clients connected by
// socket pairs.
#pragma once

#include <atomic>
#include <functional>
#include <memory>
#include <string>

#include "server/export/export.h"
#include "server/serving/status_gatherer.h"
#include "server/serving/worker.h"
#include "test/double/faulty_device.h"
#include "test/double/faulty_queue.h"
#include "test/double/memory_device.h"
#include "test/support/test_client.h"

namespace test {

struct TestServerOptions {
  std::uint64_t size = 8U << 20;   // bytes
  std::uint32_t block_size = 512;  // bytes
  bool read_only = false;
  unsigned workers = 1;
  std::uint64_t memory = 8U << 20;  // bytes, for each worker
  std::uint32_t connections_max = 100;
  std::uint32_t busy_poll_us = 0;
  engine::FaultPlan faults = {};
  std::chrono::seconds handshake_deadline{10};
  std::chrono::seconds stall_deadline{10};
  std::chrono::nanoseconds slow_request = std::chrono::nanoseconds::max();
  server::AccessRules access = {};
  std::uint32_t writers_max = 0;
};

class TestServer {
 public:
  explicit TestServer(const TestServerOptions& options = {});
  ~TestServer();

  // A connected client on the next worker in turn.
  Client connect();
  Client connect_to_worker(std::size_t index);
  // One who comes from this host, on the next worker in turn.
  Client connect_from(const std::string& host);
  // Runs `step` on a worker's thread and waits for its end.
  static void on(server::Worker& worker, const std::function<void()>& step);
  // Waits until no connection is left.
  void wait_until_idle();

  engine::Faults& faults() noexcept { return faults_; }
  server::Workers& workers() noexcept { return workers_; }
  // Another export of the same memory, not in the table.
  std::shared_ptr<server::Export> make_export(const std::string& name) const;
  std::shared_ptr<const server::ExportTable> exports() const { return exports_; }
  server::ServerStatus status(std::chrono::milliseconds deadline = std::chrono::seconds(10));
  // Takes the answers that came too late for status(), and says how many there were.
  std::size_t take_late_answers();
  const std::shared_ptr<server::Export>& target() const { return exports_->all().front(); }
  const server::Bounds& bounds() const noexcept { return bounds_; }

  static constexpr const char* export_name = "disk";

 private:
  Client connect_as(std::size_t worker, server::ClientIdentity client);

  server::asio::io_context io_context_{1};  // outlives the workers, who answer status() there
  server::Bounds bounds_;
  engine::Faults faults_;
  std::shared_ptr<engine::MemoryDevice> memory_;
  std::shared_ptr<engine::FaultyDevice> device_;
  std::shared_ptr<const server::ExportTable> exports_;
  server::Workers workers_;
  server::StatusGatherer gatherer_{io_context_, workers_};
  std::atomic<std::size_t> next_worker_{0};  // clients on several threads connect
};

}  // namespace test
