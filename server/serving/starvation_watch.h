// Gets memory for connections that wait for some, from those whose clients keep it: each client
// leaves others half of the memory that it finds; but many that read or send too slowly can take
// all there is, one after the other. Clients that have moved least of what is held for them are
// ended, one at a time, until the others have got some and find more. Belongs to a worker and is
// used on its thread.
#pragma once

#include <chrono>
#include <cstddef>
#include <memory>
#include <utility>
#include <vector>

#include "server/base/asio.h"
#include "server/serving/connection_host.h"
#include "server/serving/progress.h"

namespace server {

class Connection;

class StarvationWatch {
 public:
  // `connections`: all of the worker of `host`; `waiting`: those that wait for slots or buffers.
  // All outlive it. Progress is measured over the stall_deadline of the bounds; a connection that
  // gets nothing for so long starves.
  StarvationWatch(ConnectionHost& host, const std::vector<std::shared_ptr<Connection>>& connections,
                  const std::vector<Connection*>& waiting)
      : host_(host),
        timer_(host.io_context()),
        connections_(connections),
        waiting_(waiting),
        period_(host.bounds().stall_deadline) {}

  // A connection waits: watches until none does.
  void start();

 private:
  using Slow = std::pair<Progress, std::weak_ptr<Connection>>;

  void begin_period();
  void wait_for_look();
  void look();
  void find_slow();
  void end_slowest();
  bool more_is_needed() const;

  ConnectionHost& host_;
  Timer timer_;
  const std::vector<std::shared_ptr<Connection>>& connections_;
  const std::vector<Connection*>& waiting_;
  const std::chrono::nanoseconds period_;
  std::size_t looks_left_ = 0;  // of this period; 0: it watches nobody
  std::vector<Slow> slow_;      // the slowest comes last
};

}  // namespace server
