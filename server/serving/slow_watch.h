// Finds requests that take too long while they are still under way: of a disk that hangs, no reply
// would ever tell. It looks at all of them now and then, so that no single request pays for it.
// Belongs to a worker and is used on its thread.
#pragma once

#include <chrono>

#include "server/base/asio.h"
#include "server/serving/connection_host.h"
#include "server/serving/export_queues.h"

namespace server {

class SlowWatch {
 public:
  // Both outlive it. The bounds of `host` say what is slow.
  SlowWatch(ConnectionHost& host, const ExportQueues& queues);

  // At the end of a turn: looks again in a while if requests are under way.
  void start_if_needed() {
    if (!running_ && enabled_ && host_.requests().taken() > 0) start();
  }

 private:
  void start();
  void report();

  ConnectionHost& host_;
  const ExportQueues& queues_;
  const bool enabled_;
  const std::chrono::nanoseconds period_;
  Timer timer_;
  bool running_ = false;
};

}  // namespace server
