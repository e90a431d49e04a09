#include "server/serving/fence.h"

#include <algorithm>
#include <cerrno>
#include <system_error>

#include "server/serving/connection.h"

namespace server {

Fence::Fence(asio::io_context& io_context)
    : io_context_(io_context),
      watched_(::epoll_create1(EPOLL_CLOEXEC)),
      events_(64),
      spent_(io_context) {
  if (!watched_)
    throw std::system_error(errno, std::generic_category(), "cannot watch connections (epoll)");
}

bool Fence::watch(Connection& connection) noexcept {
  // Told once: a client that has closed its side does not open it again.
  auto event = epoll_event{.events = EPOLLRDHUP | EPOLLONESHOT, .data = {.ptr = &connection}};
  const auto fd = connection.input_descriptor();
  // Of a regular file (standard input) there is nothing to watch: its end is read at once.
  return ::epoll_ctl(watched_.get(), EPOLL_CTL_ADD, fd, &event) == 0 || errno == EPERM;
}

void Fence::note_ending(Connection& connection) {
  ::epoll_ctl(watched_.get(), EPOLL_CTL_DEL, connection.input_descriptor(), nullptr);
  gone_.emplace(connection.id(), &connection);
}

void Fence::note_spent(const Connection& connection) {
  if (gone_.erase(connection.id()) > 0) spent_.signal();
}

// Each is told once, so that the loop ends.
void Fence::collect_gone() {
  auto count = 0;
  do {
    count = ::epoll_wait(watched_.get(), events_.data(), static_cast<int>(events_.size()), 0);
    for (auto index = 0; index < count; ++index) {
      auto& connection =
          *static_cast<Connection*>(events_[static_cast<std::size_t>(index)].data.ptr);
      connection.note_client_gone();
      if (!connection.spent()) gone_.emplace(connection.id(), &connection);
    }
  } while (count == static_cast<int>(events_.size()));
}

// Predecessors only: two connections that wait here with their clients gone would otherwise wait
// for each other.
std::vector<std::shared_ptr<Connection>> Fence::dead_predecessors_of(const Connection& newcomer) {
  collect_gone();
  auto dead = std::vector<std::shared_ptr<Connection>>{};
  const auto& target = newcomer.target();
  for (const auto& [id, connection] : gone_) {
    if (!connection->precedes(newcomer)) break;
    // A changed export may share the device with the one it has taken the place of. The connections
    // of one that has another device take nothing more.
    const auto& other = connection->target();
    if (other.shares_device(target) || target.replaces(other))
      dead.push_back(connection->shared_from_this());
  }
  return dead;
}

Awaitable<void> Fence::wait_for_predecessors(std::shared_ptr<const Connection> newcomer,
                                             Timer::time_point deadline) {
  auto dead = dead_predecessors_of(*newcomer);
  if (dead.empty()) co_return;
  auto timer = Timer(io_context_, deadline);
  timer.async_wait([dead](const boost::system::error_code& cancelled) {
    if (cancelled) return;
    // A connection that only has replies to deliver holds nobody up.
    for (const auto& connection : dead)
      if (!connection->spent()) connection->abandon("its client is gone and others wait for it");
  });
  while (!dead.empty()) {
    if (dead.back()->spent())
      dead.pop_back();
    else
      co_await spent_.wait();
  }
}

}  // namespace server
