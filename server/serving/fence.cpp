#include "server/serving/fence.h"

#include <algorithm>

#include "server/serving/connection.h"

namespace server {

// Predecessors only: two connections that wait here with their clients gone would otherwise wait
// for each other.
std::vector<std::shared_ptr<Connection>> Fence::dead_predecessors_of(
    const Connection& newcomer) const {
  auto dead = std::vector<std::shared_ptr<Connection>>{};
  const auto& target = newcomer.target();
  for (const auto& connection : connections_) {
    if (!connection->precedes(newcomer)) continue;
    // A changed export may share the device with the one it has taken the place of.
    if (connection->target().shares_device(target) ? connection->client_is_gone()
                                                   : target.replaces(connection->target()))
      dead.push_back(connection);
  }
  return dead;
}

Awaitable<void> Fence::wait_for_predecessors(std::shared_ptr<const Connection> newcomer,
                                             Timer::time_point deadline) {
  const auto dead = dead_predecessors_of(*newcomer);
  if (dead.empty()) co_return;
  auto timer = Timer(io_context_, deadline);
  timer.async_wait([dead](const boost::system::error_code& cancelled) {
    if (cancelled) return;
    // A connection that only has replies to deliver holds nobody up.
    for (const auto& connection : dead)
      if (!connection->spent()) connection->abandon("its client is gone and others wait for it");
  });
  while (!std::ranges::all_of(dead, [](const auto& connection) { return connection->spent(); }))
    co_await spent_.wait();
}

}  // namespace server
