// One thread that serves connections: its io_context, a queue into each export's device, and the
// pools that its connections share. Whatever a connection touches belongs to its worker; across
// threads there is only post().
//
// A turn: receive and parse what is ready; then, once for the whole batch, submit operations,
// complete those that are done, send the replies.
#pragma once

#include <atomic>
#include <cstddef>
#include <functional>
#include <map>
#include <memory>
#include <string>
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
#include "server/serving/handshake.h"

namespace server {

class Connection;
class Worker;

// Those who serve together: a new connection has to know of dead ones on any worker.
using Workers = std::vector<std::unique_ptr<Worker>>;

// What becomes of the connections of an export that is no longer offered.
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
  // Any thread. Serves a connected socket from the transmission phase on, since the handshake is
  // settled without one: the kernel at the other end was told.
  void serve(engine::FileDescriptor socket, ClientIdentity client, Handshake handshake);
  // Before the first serve(): called on this worker's thread whenever its last connection has gone.
  void on_idle(std::function<void()> idle) { idle_ = std::move(idle); }
  // Any thread. Ends handshakes, finishes what is in flight, then closes; after the deadline,
  // closes at once.
  void drain();

  // What follows changes the exports; on this worker's thread.
  // Their queues go with the last connection, once adopt() has brought a table without them. Until
  // then newcomers are served, unless the connections that are there are sent away.
  void retire(const std::vector<std::shared_ptr<Export>>& leaving, Departure departure);
  // `queues`: those of exports that are new in the table.
  void adopt(std::shared_ptr<const ExportTable> exports, std::vector<LooseQueue> queues);
  // Whether what was negotiated still holds.
  bool offers(const Handshake& handshake) const;
  // Holds back what is submitted from now on, until let_go().
  void hold(const Export& target);
  // Waits until nothing of these exports, all of them held, is in flight. False: it still is at the
  // deadline.
  Awaitable<bool> wait_for_rest(std::vector<std::shared_ptr<Export>> group,
                                Clock::time_point deadline);
  // Puts another device in the place of the one that is at rest; `loose` gets the old queue.
  // Connections that know of more bytes than it has are ended.
  void exchange(LooseQueue& loose);
  void let_go(const Export& target);
  // Ends those connections; how many that are.
  std::size_t end_connections(const std::function<bool(const Connection&)>& chosen,
                              Departure departure);
  // Requests that wait for limits are charged anew.
  void charge_anew(const Export& target);
  // Connections in the transmission phase.
  std::size_t connection_count(const Export& target) const;
  // Before start(): takes the queue of an export whose last connection has gone.
  void on_retired(std::function<void(LooseQueue)> retired) { retired_ = std::move(retired); }

  // Connections in any phase. Any thread.
  std::size_t connection_count() const noexcept {
    return connection_count_.load(std::memory_order_relaxed);
  }

  const WorkerMetrics& metrics() const noexcept { return metrics_; }
  std::size_t index() const noexcept { return index_; }  // among those who serve together
  // On this worker's thread.
  const std::vector<std::shared_ptr<Connection>>& connections() const noexcept {
    return connections_;
  }

  // As ConnectionHost.
  ExportQueue& queue_of(const Export& target) override { return *queues_.at(&target); }
  void submit(ExportQueue& queue, engine::Io& io) noexcept override;
  void schedule(Connection& connection) override;
  void wait_for_resources(Connection& connection) override;
  void note_spent() override { spent_.cancel(); }
  void remove(Connection& connection, std::unique_ptr<Transport> transport) override;

 private:
  // A client outside the transmission phase: it has not chosen an export yet, or it is being closed
  // gently.
  struct Visitor {
    Visitor(std::unique_ptr<Transport> stream, Timer timer)
        : transport(std::move(stream)), deadline(std::move(timer)) {}
    std::unique_ptr<Transport> transport;
    Timer deadline;
  };

  void admit(std::unique_ptr<Transport> transport, Handshake handshake);
  Awaitable<void> attend(std::shared_ptr<Visitor> visitor);
  Awaitable<void> see_off(std::shared_ptr<Visitor> visitor);
  Awaitable<void> begin_transmission(std::shared_ptr<Connection> connection);
  Awaitable<void> wait_for_dead_predecessors(std::shared_ptr<const Connection> newcomer,
                                             Timer::time_point until);
  std::shared_ptr<Visitor> receive_visitor(std::unique_ptr<Transport> transport,
                                           std::chrono::seconds deadline);
  void arrive(std::unique_ptr<Transport> transport);
  void leave(const Visitor& visitor);
  void count_begin(const Connection& connection);
  void count_end(const Connection& connection);
  void count_departure();
  void limit_visitors();
  void run_first();            // the first handler of a turn, waiting for it
  void settle();               // submit, harvest and pump until nothing more can be done now
  bool run_queues() noexcept;  // false: nothing was submitted or harvested
  void flush(ExportQueue& entry) noexcept;
  bool pump_connections();  // false: there was none to pump
  void watch_for_slow_requests();
  void report_slow_requests();
  void watch_for_stalls();
  void relieve_starvation();
  void wait_for_completions();
  // Answers what has arrived, then closes; after the deadline, closes at once.
  void end(const std::vector<std::shared_ptr<Connection>>& connections);
  void bury();
  bool is_at_rest(const std::vector<std::shared_ptr<Export>>& group);
  ExportQueue* find_queue(const Export& target) const noexcept;
  void release_retired();

  std::shared_ptr<const ExportTable> exports_;
  const std::shared_ptr<const TlsContext> tls_;
  Workers& workers_;
  const std::size_t index_;

  asio::executor_work_guard<Executor> work_;
  std::map<const Export*, std::unique_ptr<ExportQueue>> queues_;
  std::vector<ExportQueue*> active_queues_;
  std::vector<ExportQueue*> retired_queues_;
  std::function<void(LooseQueue)> retired_ = [](const LooseQueue&) {};

  std::vector<std::shared_ptr<Visitor>> visitors_;  // oldest first
  std::vector<std::shared_ptr<Connection>> connections_;
  std::vector<Connection*> scheduled_;
  std::vector<Connection*> scheduled_now_;
  std::vector<Connection*> waiting_for_resources_;
  std::vector<std::shared_ptr<Connection>> graveyard_;
  Timer spent_;  // never expires; cancelled whenever a connection can change nothing any more
  Timer rest_;   // never expires; cancelled whenever a held queue may have come to rest
  std::function<void()> idle_ = [] {};
  Timer stall_watch_;  // runs while connections wait for resources
  bool watching_for_stalls_ = false;
  Timer slow_watch_;        // runs while requests are under way
  bool watching_for_slow_;  // or there is nothing to watch for
  std::atomic<std::size_t> connection_count_{0};
  WorkerMetrics metrics_;
  bool draining_ = false;
  bool stopping_ = false;
  std::thread thread_;
};

// Ends them when their last connections have gone, and waits for that. Only then may any of them be
// destroyed.
void end_all(const Workers& workers);

}  // namespace server
