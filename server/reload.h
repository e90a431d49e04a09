// Reads the configuration again and makes it the one in use, on SIGHUP or when asked to. All that
// may fail comes first: reading, TLS credentials, sockets, devices. Then the exports change, and
// what follows cannot fail. Used on the accepting thread.
#pragma once

#include <boost/asio/signal_set.hpp>
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "engine/blocking_pool.h"
#include "server/base/asio.h"
#include "server/config/config.h"
#include "server/config/keys.h"
#include "server/live/live_exports.h"
#include "server/live/reloaded.h"
#include "server/net/listeners.h"
#include "server/net/tls_credentials.h"
#include "server/watch/notify.h"

namespace server {

class Reload {
 public:
  // The things that a reload changes. All of them outlive the io_context's last run.
  struct Targets {
    asio::io_context& io_context;
    engine::BlockingPool& pool;
    Config& config;  // the one in use
    TlsContext& tls;
    LiveExports& exports;
    Listeners& listeners;
    Notify& notify;
  };

  // `reread` gives the configuration of the moment. Absent: there is no file to read, and SIGHUP
  // keeps its usual meaning, that the terminal has gone. Otherwise SIGHUP is kept for start() from
  // here on.
  Reload(const Targets& targets, std::function<Config()> reread);
  Reload(const Reload&) = delete;
  Reload& operator=(const Reload&) = delete;

  // Reloads on SIGHUP from now on.
  void start();
  // Throws with a message for people when the configuration is not valid or something cannot be
  // opened: then nothing has changed.
  Awaitable<Reloaded> run(Departure departure);
  // The server ends: refuses reloads, and lets the one under way change no listeners.
  void end() noexcept { ended_ = true; }

 private:
  struct Prepared;

  Awaitable<void> run_and_log();
  Awaitable<std::shared_ptr<Prepared>> prepare();
  void commit(Prepared& prepared);
  void put_into_use(Effect effect, Prepared& prepared);
  void warn_of_removed(const ExportTable& before, const std::vector<std::string>& removed) const;
  void end_run();

  const Targets targets_;
  const std::function<Config()> reread_;
  asio::signal_set signal_;
  bool running_ = false;
  bool ended_ = false;
};

}  // namespace server
