// Holds a new connection up until nothing of its dead predecessors can change the export any more:
// a client that lost its connection may have left writes in the old one, which must not land after
// what it writes in the new one. One for each worker, for the connections of that worker; used on
// its thread.
#pragma once

#include <memory>
#include <vector>

#include "server/base/asio.h"
#include "server/base/event.h"

namespace server {

class Connection;

class Fence {
 public:
  // `connections` outlives it.
  Fence(asio::io_context& io_context, const std::vector<std::shared_ptr<Connection>>& connections)
      : io_context_(io_context), connections_(connections), spent_(io_context) {}

  // Waits for those of this worker's connections that `newcomer`, of any worker, must come after.
  // At the deadline, connections that still can change the export are abandoned.
  Awaitable<void> wait_for_predecessors(std::shared_ptr<const Connection> newcomer,
                                        Timer::time_point deadline);
  // A connection can change nothing any more.
  void note_spent() { spent_.signal(); }

 private:
  std::vector<std::shared_ptr<Connection>> dead_predecessors_of(const Connection& newcomer) const;

  asio::io_context& io_context_;
  const std::vector<std::shared_ptr<Connection>>& connections_;
  Event spent_;
};

}  // namespace server
