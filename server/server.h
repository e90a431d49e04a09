// The whole of a serving process: opens the exports and the sockets, runs the workers, stops on
// signals.
#pragma once

#include <boost/asio/signal_set.hpp>
#include <chrono>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "engine/blocking_pool.h"
#include "server/base/asio.h"
#include "server/config/bounds.h"
#include "server/config/config.h"
#include "server/control/control_socket.h"
#include "server/control/control_targets.h"
#include "server/live/live_exports.h"
#include "server/net/listeners.h"
#include "server/process/wake_latency.h"
#include "server/reload.h"
#include "server/serving/status_gatherer.h"
#include "server/serving/worker.h"
#include "server/watch/http.h"
#include "server/watch/notify.h"

namespace server {

class Server {
 public:
  // Opens everything; serves nothing yet. Throws UserError or std::runtime_error with a message
  // for people. `reread` gives the configuration of the moment; absent: there is no file to read.
  explicit Server(Config config, std::function<Config()> reread = {});
  ~Server();

  // Serves until SIGTERM or SIGINT, or until the one client of --stdio has gone; then finishes what
  // is in flight, syncs, and returns the exit status. A second signal ends the process at once. The
  // calling thread accepts.
  int run();

  // The status of this moment; on the calling thread of run(). Workers that do not answer within
  // `deadline` are said not to.
  Awaitable<ServerStatus> status(std::chrono::milliseconds deadline);

  // Ends it as SIGTERM does; on the accepting thread.
  void stop(const char* reason);

 private:
  void make_workers();
  void serve(engine::FileDescriptor socket, ClientIdentity client);
  void catch_signals();
  void open_control_socket();
  ControlTargets control_targets();
  void serve_http();
  void stop_if_idle();
  std::uint64_t count_turns() const noexcept;
  void announce() const;

  Config config_;
  const Bounds bounds_;
  asio::io_context io_context_;       // outlives all that reports to the accepting thread
  engine::BlockingPool change_pool_;  // for changes of the exports, not for their data
  const std::shared_ptr<TlsContext> tls_;
  Workers workers_;
  LiveExports exports_;
  asio::signal_set signals_;  // before anything listens, so that no signal is lost in between
  Listeners listeners_;
  StatusGatherer gatherer_;
  std::vector<ListeningSocket> http_sockets_;  // until run()
  std::optional<HttpServer> http_;
  Notify notify_;
  Reload reload_;
  std::optional<WakeLatency> wake_latency_;
  std::unique_ptr<ControlSocket> control_;  // absent: there is none
  log::RateLimit limit_log_;
  bool stopping_ = false;
  const std::chrono::system_clock::time_point start_time_ = std::chrono::system_clock::now();
  const Clock::time_point start_ = Clock::now();
};

// For `loopnbd check-config`: everything that serving would need, short of listening. Throws
// like Server.
void check(const Config& config);

}  // namespace server
