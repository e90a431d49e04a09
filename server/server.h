// The whole of a serving process: opens the exports and the sockets, runs the workers, stops on
// signals.
#pragma once

#include <boost/asio/signal_set.hpp>
#include <chrono>
#include <memory>
#include <vector>

#include "engine/blocking_pool.h"
#include "server/asio.h"
#include "server/config.h"
#include "server/export.h"
#include "server/limits.h"
#include "server/listener.h"
#include "server/status.h"
#include "server/worker.h"

namespace server {

class Server {
 public:
  // Opens everything; serves nothing yet. Throws ConfigError or std::runtime_error with a message
  // for people.
  explicit Server(Config config);
  ~Server();

  // Serves until SIGTERM or SIGINT, or until the one client of --stdio has gone; then finishes what
  // is in flight, syncs, and returns the exit status. A second signal ends the process at once. The
  // calling thread accepts.
  int run();

  // What it is doing now; on the calling thread of run(). Workers that do not answer within
  // `deadline` are said not to.
  Awaitable<ServerStatus> status(std::chrono::milliseconds deadline);

 private:
  void open_exports();
  void open_sockets();
  void make_workers();
  void serve(UniqueFd socket, ClientIdentity client);
  void stop(const char* reason);
  void stop_if_idle();
  int sync_exports();
  void announce() const;

  const Config config_;
  const Limits limits_;
  engine::BlockingPool blocking_pool_;  // outlives the devices
  const std::shared_ptr<TlsContext> tls_;
  std::shared_ptr<const ExportTable> exports_;
  std::vector<ListeningSocket> sockets_;  // until run()
  Workers workers_;
  asio::io_context io_context_;
  asio::signal_set signals_;  // before anything listens, so that no signal is lost in between
  std::vector<std::unique_ptr<Listener>> listeners_;
  log::RateLimit limit_log_;
  bool stopping_ = false;
  const std::chrono::system_clock::time_point start_time_ = std::chrono::system_clock::now();
  const Clock::time_point start_ = Clock::now();
};

// What `loopnbd check-config` does: everything that serving would need, short of listening. Throws
// like Server.
void check(const Config& config);

}  // namespace server
