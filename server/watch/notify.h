// Tells a service manager, by systemd's protocol (sd_notify(3)): ready, stopping, a line of status,
// and as long as every worker responds a sign of life for its watchdog. Silent where nobody listens
// (no NOTIFY_SOCKET). Used on the thread of its io_context.
#pragma once

#include <chrono>
#include <functional>
#include <string>

#include "server/base/asio.h"
#include "server/serving/status.h"

namespace server {

class Notify {
 public:
  // Asks the server, its workers within the time given.
  using AskStatus = std::function<Awaitable<ServerStatus>(std::chrono::milliseconds)>;

  // `ask` may be used until the io_context has stopped.
  Notify(asio::io_context& io_context, AskStatus ask);

  // Listening: starts the watchdog's signs of life and the lines of status.
  void ready();
  // A new configuration is being taken; ready() when that is done.
  void reloading();
  void stopping();

 private:
  void tell(const std::string& state);
  Awaitable<void> report();

  asio::io_context& io_context_;
  const AskStatus ask_;
  const bool active_;
  const std::chrono::microseconds watchdog_;  // zero: none
  bool reporting_ = false;
  bool failing_ = false;
};

}  // namespace server
