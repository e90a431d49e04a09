// The parts of a running server that the commands of the control socket look at and change. Used
// on the accepting thread.
#pragma once

#include <chrono>
#include <functional>

#include "server/base/asio.h"
#include "server/live/live_exports.h"
#include "server/live/reloaded.h"
#include "server/net/tls_config.h"
#include "server/serving/status.h"

namespace server {

struct ControlTargets {
  LiveExports& exports;
  const TlsConfig& tls;  // the one in use, which the rules of exports refer to
  // Reads the configuration again and makes it the one in use. Throws with a message for people
  // when it cannot: then nothing has changed.
  std::function<Awaitable<Reloaded>(Departure departure)> reload;
  // Workers that do not answer within `deadline` are said not to.
  std::function<Awaitable<ServerStatus>(std::chrono::milliseconds deadline)> status;
  // Ends the server as SIGTERM does, after the reply to this command has been sent.
  std::function<void()> stop;
};

}  // namespace server
