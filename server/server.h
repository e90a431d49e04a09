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
#include "server/live/live_exports.h"
#include "server/net/listener.h"
#include "server/process/wake_latency.h"
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

  // What it is doing now; on the calling thread of run(). Workers that do not answer within
  // `deadline` are said not to.
  Awaitable<ServerStatus> status(std::chrono::milliseconds deadline);
  // What a reload has done, or would have to be restarted for.
  struct Reloaded {
    ChangedNames exports;
    std::vector<std::string> need_restart;  // keys whose new values are not in use
  };
  // Reads the configuration again and makes it the one in use; the accepting thread. Throws with a
  // message for people when it is not valid or something cannot be opened: then nothing has
  // changed.
  Awaitable<Reloaded> reload(Departure departure);

  // Ends it as SIGTERM does. These four: on the accepting thread.
  void stop(const char* reason);
  // The one in use now, which the rules of exports refer to.
  const TlsConfig& tls_config() const noexcept { return config_.tls; }
  LiveExports& exports() noexcept { return exports_; }
  asio::io_context& io_context() noexcept { return io_context_; }

 private:
  // A listener and the address that the configuration gives for it; empty: a passed socket.
  struct Listening {
    std::string address;
    std::unique_ptr<Listener> listener;
  };
  struct OpenSocket {
    std::string address;
    ListeningSocket socket;
  };

  void open_sockets();
  void make_workers();
  void serve(engine::FileDescriptor socket, ClientIdentity client);
  void catch_signals();
  void reload_on_signal();
  Awaitable<void> reload_and_report();
  void listen(std::vector<OpenSocket>&& sockets);
  std::vector<OpenSocket> open_new_sockets(const Config& config) const;
  void replace_listeners(const Config& config, std::vector<OpenSocket> opened);
  std::vector<std::string> wanted_addresses(const Config& config) const;
  void open_control_socket();
  void serve_http();
  void stop_if_idle();
  std::uint64_t count_turns() const noexcept;
  void announce() const;

  Config config_;
  const std::function<Config()> reread_;
  const Bounds bounds_;
  asio::io_context io_context_;         // outlives all that reports to the accepting thread
  engine::BlockingPool blocking_pool_;  // outlives the devices
  const std::shared_ptr<TlsContext> tls_;
  Workers workers_;
  LiveExports exports_;
  std::vector<OpenSocket> sockets_;  // until run()
  asio::signal_set signals_;  // before anything listens, so that no signal is lost in between
  asio::signal_set reload_signal_;
  std::vector<Listening> listeners_;
  StatusGatherer gatherer_;
  std::vector<ListeningSocket> http_sockets_;  // until run()
  std::optional<HttpServer> http_;
  Notify notify_;
  std::optional<WakeLatency> wake_latency_;
  std::unique_ptr<ControlSocket> control_;  // absent: there is none
  log::RateLimit limit_log_;
  bool reloading_ = false;
  bool stopping_ = false;
  const std::chrono::system_clock::time_point start_time_ = std::chrono::system_clock::now();
  const Clock::time_point start_ = Clock::now();
};

// What `loopnbd check-config` does: everything that serving would need, short of listening. Throws
// like Server.
void check(const Config& config);

}  // namespace server
