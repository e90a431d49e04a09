// Holds a new connection up until nothing of its dead predecessors can change the export any more:
// a client that lost its connection may have left writes in the old one, which must not land after
// what it writes in the new one. One for each worker, for the connections of that worker; used on
// its thread.
//
// The kernel keeps the list of clients that have closed their side, so that a new connection costs
// as much with thousands of others as with none.
#pragma once

#include <sys/epoll.h>

#include <cstdint>
#include <map>
#include <memory>
#include <vector>

#include "engine/file_descriptor.h"
#include "server/base/asio.h"
#include "server/base/event.h"

namespace server {

class Connection;

class Fence {
 public:
  // Throws std::system_error when the kernel has no file descriptor for it.
  explicit Fence(asio::io_context& io_context);

  // Watches for the end of the client of a connection that may write and has just begun. False: the
  // kernel has refused that.
  bool watch(Connection& connection) noexcept;
  // A connection that may write takes nothing more; its descriptor is still open.
  void note_ending(Connection& connection);
  // A connection can change nothing any more. It is forgotten, and may be destroyed.
  void note_spent(const Connection& connection);

  // Waits for those of this worker's connections that `newcomer`, of any worker, must come after.
  // At the deadline, connections that still can change the export are abandoned.
  Awaitable<void> wait_for_predecessors(std::shared_ptr<const Connection> newcomer,
                                        Timer::time_point deadline);

 private:
  void collect_gone();
  std::vector<std::shared_ptr<Connection>> dead_predecessors_of(const Connection& newcomer);

  asio::io_context& io_context_;
  engine::FileDescriptor watched_;   // an epoll instance
  std::vector<epoll_event> events_;  // room to ask it
  // Connections whose clients are gone, or that take nothing more, and that can still change their
  // exports; by id.
  std::map<std::uint64_t, Connection*> gone_;
  Event spent_;
};

}  // namespace server
