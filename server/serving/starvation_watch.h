// Ends connections that hold the worker's memory without progress while others wait for some. Each
// client leaves others half of the memory that it finds; but many that have stopped reading, or
// stopped in the middle of a payload, can take all there is, one after the other. Belongs to a
// worker and is used on its thread.
#pragma once

#include <chrono>
#include <memory>
#include <vector>

#include "server/base/asio.h"

namespace server {

class Connection;

class StarvationWatch {
 public:
  // `connections`: all of the worker; `waiting`: those that wait for slots or buffers. Both outlive
  // it. A connection is ended when it makes no progress for `deadline`.
  StarvationWatch(asio::io_context& io_context,
                  const std::vector<std::shared_ptr<Connection>>& connections,
                  const std::vector<Connection*>& waiting, std::chrono::nanoseconds deadline)
      : timer_(io_context), connections_(connections), waiting_(waiting), deadline_(deadline) {}

  // A connection waits: watches until none does.
  void start();

 private:
  void begin_period();
  void relieve();

  Timer timer_;
  const std::vector<std::shared_ptr<Connection>>& connections_;
  const std::vector<Connection*>& waiting_;
  const std::chrono::nanoseconds deadline_;
  bool running_ = false;
};

}  // namespace server
