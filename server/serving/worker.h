// One thread that serves connections: its io_context, a queue into each export's device, and the
// pools that its connections share. A connection touches only what belongs to its worker; across
// threads there is only post().
//
// A turn: receive and parse what is ready; then, once for the whole batch, submit operations,
// complete those that are done, send the replies.
#pragma once

#include <atomic>
#include <cstddef>
#include <functional>
#include <memory>
#include <string>
#include <string_view>
#include <thread>
#include <vector>

#include "engine/file_descriptor.h"
#include "server/base/asio.h"
#include "server/base/metrics.h"
#include "server/config/bounds.h"
#include "server/export/export.h"
#include "server/export/export_queue.h"
#include "server/net/tls_credentials.h"
#include "server/net/transport.h"
#include "server/serving/connection_host.h"
#include "server/serving/export_queues.h"
#include "server/serving/fence.h"
#include "server/serving/handshake.h"
#include "server/serving/reception.h"
#include "server/serving/slow_watch.h"
#include "server/serving/starvation_watch.h"

namespace server {

class Connection;
class Worker;

// All workers of a server: a new connection has to know of dead ones on any of them.
using Workers = std::vector<std::unique_ptr<Worker>>;

// The fate of the connections of an export that is no longer offered.
enum class Departure : std::uint8_t {
  keep,   // they go on until their clients end them
  drain,  // what has arrived is answered, then they end
  now,    // they end at once
};

class Worker final : public ConnectionHost {
 public:
  // `workers` holds all workers; this one becomes the next of them before the server starts.
  // `exports` must have been added by add_export() before connections come. `tls`: nullptr where
  // there is none.
  Worker(const Bounds& bounds, std::shared_ptr<const ExportTable> exports, Workers& workers,
         std::shared_ptr<const TlsContext> tls = nullptr);
  ~Worker();

  // Before start(). Throws what BlockDevice::make_queue() throws.
  void add_export(const std::shared_ptr<Export>& target);
  // Before start(): takes the queue of a retired export whose last connection has gone.
  void on_released(std::function<void(LooseQueue)> released);
  // Before the first serve(): called on this worker's thread whenever its last connection has gone.
  void on_idle(std::function<void()> idle) { idle_ = std::move(idle); }

  // Runs turns on a thread of its own until stop().
  void start();
  // Any thread: ends when the last connection has gone.
  void stop();
  void join();

  // One turn on the calling thread: waits for an event, then does all there is to do. For start()
  // and for tests.
  void run_turn();

  // Any thread. Serves a connected socket, from the handshake to its end.
  void serve(engine::FileDescriptor socket, ClientIdentity client);
  // Any thread. Serves one client on two descriptors.
  void serve(engine::FileDescriptor input, engine::FileDescriptor output, ClientIdentity client);
  // Any thread. Serves a connected socket from the transmission phase on: the client has negotiated
  // elsewhere, or was told. Nothing is unsent in `state`, and no more is unread than the least
  // buffer holds.
  void serve(engine::FileDescriptor socket, ClientState state);
  // Any thread. Ends handshakes, finishes what is in flight, then closes; after the deadline,
  // closes at once.
  void drain();

  // Changes of the exports; on this worker's thread.
  // As ExportQueues::retire(): newcomers are served until adopt(), unless the connections that are
  // there are sent away.
  void retire(const std::vector<std::shared_ptr<Export>>& retired, Departure departure);
  // `queues`: those of exports that are new in the table.
  void adopt(std::shared_ptr<const ExportTable> exports, std::vector<LooseQueue> queues);
  // Holds back what is submitted from now on, until resume().
  void hold(const Export& target) { queues_.hold(target); }
  // Waits until nothing of these exports, all of them held, is in flight. False: something still is
  // at the deadline.
  Awaitable<bool> wait_for_rest(std::vector<std::shared_ptr<Export>> group,
                                Clock::time_point deadline);
  // Puts another device in the place of the one that is at rest; `loose` gets the old queue.
  // Connections that know of more bytes than it has are ended.
  void exchange(LooseQueue& loose);
  void resume(const Export& target);
  // Ends those connections; how many that are.
  std::size_t end_connections(const std::function<bool(const Connection&)>& chosen,
                              Departure departure);
  // The limits of the export have changed, for requests that wait for them, too.
  void limits_changed(const Export& target);
  // Connections in the transmission phase.
  std::size_t connection_count(const Export& target) const;

  // Connections in any phase. Any thread.
  std::size_t connection_count() const noexcept {
    return connection_count_.load(std::memory_order_relaxed);
  }

  const WorkerMetrics& metrics() const noexcept { return metrics_; }
  std::size_t index() const noexcept { return index_; }  // among all workers
  // On this worker's thread.
  const std::vector<std::shared_ptr<Connection>>& connections() const noexcept {
    return connections_;
  }

  // As ConnectionHost.
  ExportQueue& queue_of(const Export& target) override { return queues_.at(target); }
  void submit(ExportQueue& queue, engine::Io& io) noexcept override { queues_.submit(queue, io); }
  void schedule(Connection& connection) override { scheduled_.push_back(&connection); }
  void wait_for_resources(Connection& connection) override;
  void note_ending(Connection& connection) override { fence_.note_ending(connection); }
  void note_spent(Connection& connection) override { fence_.note_spent(connection); }
  void remove(Connection& connection, std::unique_ptr<Transport> transport) override;

 private:
  // Runs accept() on this worker's thread, with the client counted. A client that it fails for is
  // gone.
  template <typename Accept>
  void receive(Accept accept);
  void run_first();          // the first handler of a turn, waiting for it
  void run_until_waiting();  // submits, harvests and runs connections until all of it must wait
  void find_scarcity();
  bool run_connections();  // false: there was none to run
  void begin(std::unique_ptr<Transport> transport, Handshake handshake);
  void watch(Connection& connection);
  Awaitable<void> begin_transmission(std::shared_ptr<Connection> connection);
  void count_gone();
  std::vector<std::shared_ptr<Connection>> connections_of(const ExportQueue& queue) const;
  // Abandons them, or answers what has arrived, then closes; after the deadline, closes at once.
  void end(const std::vector<std::shared_ptr<Connection>>& connections, Departure departure,
           std::string_view reason);

  Workers& workers_;
  const std::size_t index_;
  asio::executor_work_guard<Executor> work_;
  WorkerMetrics metrics_;
  std::atomic<std::size_t> connection_count_{0};
  std::function<void()> idle_ = [] {};

  ExportQueues queues_;
  std::vector<std::shared_ptr<Connection>> connections_;
  std::vector<Connection*> scheduled_;
  std::vector<Connection*> scheduled_now_;
  std::vector<Connection*> waiting_for_resources_;
  std::vector<std::shared_ptr<Connection>> removed_;  // until the turn ends

  Reception reception_;
  Fence fence_;
  StarvationWatch starvation_watch_;
  SlowWatch slow_watch_;
  bool stopping_ = false;
  std::thread thread_;
};

// Ends them when their last connections have gone, and waits for that. Only then may any of them be
// destroyed.
void end_all(const Workers& workers);

}  // namespace server
