#include "test/support/test_server.h"

#include <poll.h>
#include <sys/socket.h>

#include <algorithm>
#include <boost/asio/use_future.hpp>
#include <csignal>
#include <future>
#include <stdexcept>
#include <utility>

#include "test/support/eventually.h"

namespace test {
namespace {

server::Bounds bounds_of(const TestServerOptions& options) {
  auto config = server::Config{};
  config.workers = options.workers;
  config.memory = options.memory * options.workers;
  config.connections_max = options.connections_max;
  config.busy_poll_us = options.busy_poll_us;
  auto bounds = server::derive_bounds(config);
  bounds.handshake_deadline = options.handshake_deadline;
  bounds.stall_deadline = options.stall_deadline;
  bounds.slow_request = options.slow_request;
  return bounds;
}

std::shared_ptr<engine::MemoryDevice> memory_of(const TestServerOptions& options) {
  auto memory = engine::MemoryDeviceOptions{};
  memory.size = options.size;
  memory.block_size = options.block_size;
  memory.read_only = options.read_only;
  return std::make_shared<engine::MemoryDevice>(memory);
}

}  // namespace

TestServer::TestServer(const TestServerOptions& options)
    : bounds_(bounds_of(options)),
      faults_(options.faults),
      memory_(memory_of(options)),
      device_(std::make_shared<engine::FaultyDevice>(memory_, faults_)) {
  std::signal(SIGPIPE, SIG_IGN);  // as main() does
  spdlog::set_level(spdlog::level::off);
  auto config = server::ExportConfig{};
  config.name = export_name;
  config.access = options.access;
  config.writers_max = options.writers_max;
  auto target = std::make_shared<server::Export>(config, device_, bounds_);
  exports_ = std::make_shared<const server::ExportTable>(std::vector{target});
  for (auto index = 0U; index < options.workers; ++index) {
    auto& worker =
        *workers_.emplace_back(std::make_unique<server::Worker>(bounds_, exports_, workers_));
    worker.add_export(target);
  }
  for (auto& worker : workers_) worker->start();
}

TestServer::~TestServer() {
  faults_.release_all();
  for (auto& worker : workers_) worker->drain();
  server::end_all(workers_);
}

Client TestServer::connect() { return connect_to_worker(next_worker_++ % workers_.size()); }

Client TestServer::connect_to_worker(std::size_t index) {
  return connect_as(index, {.name = "a test", .host = "a test"});
}

Client TestServer::connect_from(const std::string& host) {
  return connect_as(next_worker_++ % workers_.size(),
                    {.name = host, .host = host, .address = server::parse_ip_address(host)});
}

Client TestServer::connect_as(std::size_t worker, server::ClientIdentity client) {
  int ends[2];
  if (::socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, ends) != 0)
    throw std::runtime_error("socketpair");
  workers_.at(worker)->serve(engine::FileDescriptor(ends[0]), std::move(client));
  return Client(engine::FileDescriptor(ends[1]));
}

server::ServerStatus TestServer::status(std::chrono::milliseconds deadline) {
  auto result = server::asio::co_spawn(io_context_, gatherer_.gather(exports_, deadline),
                                       server::asio::use_future);
  io_context_.restart();
  io_context_.run();
  return result.get();
}

std::shared_ptr<server::Export> TestServer::make_export(const std::string& name) const {
  auto config = server::ExportConfig{};
  config.name = name;
  return std::make_shared<server::Export>(config, device_, bounds_);
}

std::size_t TestServer::take_late_answers() {
  io_context_.restart();
  return io_context_.poll();
}

void TestServer::on(server::Worker& worker, const std::function<void()>& step) {
  auto done = std::promise<void>();
  server::asio::post(worker.io_context(), [&] {
    step();
    done.set_value();
  });
  done.get_future().wait();
}

void TestServer::wait_until_idle() {
  const auto idle = [](const auto& worker) { return worker->connection_count() == 0; };
  if (!eventually([&] { return std::ranges::all_of(workers_, idle); }))
    throw std::runtime_error("a connection stays");
}

}  // namespace test
