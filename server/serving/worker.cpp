#include "server/serving/worker.h"

#include <fmt/format.h>
#include <pthread.h>

#include <algorithm>
#include <functional>
#include <utility>

#include "server/base/log.h"
#include "server/serving/connection.h"

namespace server {
namespace {

// Rounds of one turn before the sockets are looked at again.
constexpr auto rounds_max = 8;

}  // namespace

Worker::Worker(const Bounds& bounds, std::shared_ptr<const ExportTable> exports, Workers& workers,
               std::shared_ptr<const TlsContext> tls)
    : ConnectionHost(bounds),
      exports_(std::move(exports)),
      tls_(std::move(tls)),
      workers_(workers),
      index_(workers.size()),
      work_(asio::make_work_guard(io_context())),
      spent_(io_context(), Timer::time_point::max()),
      rest_(io_context(), Timer::time_point::max()),
      stall_watch_(io_context()),
      slow_watch_(io_context()),
      watching_for_slow_(bounds.slow_request == std::chrono::nanoseconds::max()) {}

Worker::~Worker() {
  stop();
  join();
}

void Worker::add_export(const std::shared_ptr<Export>& target) {
  auto queue = make_queue(target, bounds().queue_depth);
  queues_.emplace(target.get(),
                  std::make_unique<ExportQueue>(io_context(), std::move(queue), index_));
}

void Worker::start() {
  thread_ = std::thread([this] {
    ::pthread_setname_np(::pthread_self(),
                         fmt::format("worker {}", index_).c_str());  // for ps and top
    while (!stopping_ || connection_count() > 0) run_turn();
  });
}

void Worker::stop() {
  asio::post(io_context(), [this] { stopping_ = true; });
}

void Worker::join() {
  if (thread_.joinable()) thread_.join();
}

void end_all(const Workers& workers) {
  for (const auto& worker : workers) worker->stop();
  for (const auto& worker : workers) worker->join();
  // A coroutine that went from one to another leaves its end to be tidied up by the first, which
  // may have had its last turn by then. That must not be left to destructors: it refers to both.
  for (auto left = true; left;)
    left =
        std::ranges::any_of(workers, [](auto& worker) { return worker->io_context().poll() > 0; });
}

void Worker::run_turn() {
  run_first();
  // What else is ready shares the submission and the replies. One client's requests come together
  // as it is, and to ask for more costs a system call.
  if (connections_.size() != 1) io_context().poll();
  settle();
  bury();
  if (!watching_for_slow_ && requests().taken() > 0) watch_for_slow_requests();
  metrics_.turns.add(1);
  metrics_.memory_in_use.set(buffers().in_use());
}

void Worker::run_first() {
  // Who waits for each reply asks again sooner than this thread would fall asleep and wake up.
  if (bounds().busy_poll.count() > 0 && !connections_.empty()) {
    const auto until = Timer::clock_type::now() + bounds().busy_poll;
    do {
      if (io_context().poll_one() > 0) return;
    } while (Timer::clock_type::now() < until);
  }
  io_context().run_one();
}

void Worker::settle() {
  auto busy = true;
  for (auto round = 0; busy && round < rounds_max; ++round) {
    busy = run_queues();
    busy = pump_connections() || busy;
  }
  wait_for_completions();
  if (busy) asio::post(io_context(), [] {});
}

bool Worker::run_queues() noexcept {
  auto busy = false;
  for (auto* const entry : active_queues_) {
    read_clock();
    if (std::exchange(entry->unflushed, false)) {
      flush(*entry);
      busy = true;
    }
    busy = entry->queue->harvest() > 0 || busy;
  }
  std::erase_if(active_queues_, [this](ExportQueue* entry) {
    entry->active = entry->unflushed || entry->queue->in_flight() > 0;
    if (!entry->active && entry->held) rest_.cancel();
    return !entry->active;
  });
  return busy;
}

void Worker::flush(ExportQueue& entry) noexcept {
  const auto begin = now();
  entry.queue->flush();
  read_clock();
  entry.metrics.submit.add(now() - begin);
}

bool Worker::pump_connections() {
  scheduled_now_.clear();
  scheduled_now_.swap(scheduled_);
  for (auto* const connection : scheduled_now_) connection->run();
  if (scheduled_now_.empty() || waiting_for_resources_.empty()) return !scheduled_now_.empty();
  // Replies have gone, so slots and buffers may be free. Those that still get none wait again, in
  // the same order.
  scheduled_now_.clear();
  scheduled_now_.swap(waiting_for_resources_);
  read_clock();
  for (auto* const connection : scheduled_now_) connection->resources_freed();
  return true;
}

void Worker::wait_for_completions() {
  // Only while something is in flight: what completes within the submission costs no wake-up.
  for (auto* const entry : active_queues_) {
    if (std::exchange(entry->waiting, true)) continue;
    entry->wakeup.async_wait(Descriptor::wait_read,
                             [this, entry](const boost::system::error_code& failure) {
                               entry->waiting = false;
                               if (entry->held) rest_.cancel();
                               if (!failure) entry->queue->clear_wakeup();
                             });
  }
}

void Worker::submit(ExportQueue& queue, engine::Io& io) noexcept {
  if (queue.held) return queue.held_ios.push_back(io);
  queue.queue->submit(io);
  queue.unflushed = true;
  if (!std::exchange(queue.active, true)) active_queues_.push_back(&queue);
}

void Worker::schedule(Connection& connection) { scheduled_.push_back(&connection); }

void Worker::wait_for_resources(Connection& connection) {
  waiting_for_resources_.push_back(&connection);
  if (!watching_for_stalls_) watch_for_stalls();
  metrics_.resource_waits.add(1);
}

void Worker::watch_for_stalls() {
  watching_for_stalls_ = true;
  for (const auto& connection : connections_) connection->forget_progress();
  stall_watch_.expires_after(bounds().stall_deadline);
  stall_watch_.async_wait([this](const boost::system::error_code& cancelled) {
    if (cancelled) return;
    relieve_starvation();
    watching_for_stalls_ = false;
    if (!waiting_for_resources_.empty()) watch_for_stalls();
  });
}

// Each client leaves others half of what it finds. But many that have stopped reading, or stopped
// in the middle of a payload, can take all there is, one after the other.
void Worker::relieve_starvation() {
  if (std::ranges::none_of(waiting_for_resources_, &Connection::starving)) return;
  for (const auto& connection : connections_)
    if (connection->stalled())
      connection->abandon("it neither reads nor sends while others wait for the memory it holds");
}

void Worker::serve(engine::FileDescriptor socket, ClientIdentity client) {
  connection_count_.fetch_add(1, std::memory_order_relaxed);
  asio::post(io_context(), [this, socket = std::move(socket),
                            client = std::move(client)]() mutable {
    arrive(std::make_unique<SocketTransport>(io_context(), std::move(socket), std::move(client)));
  });
}

void Worker::serve(engine::FileDescriptor input, engine::FileDescriptor output,
                   ClientIdentity client) {
  connection_count_.fetch_add(1, std::memory_order_relaxed);
  asio::post(io_context(), [this, input = std::move(input), output = std::move(output),
                            client = std::move(client)]() mutable {
    arrive(std::make_unique<SocketTransport>(io_context(), std::move(input), std::move(output),
                                             std::move(client)));
  });
}

void Worker::serve(engine::FileDescriptor socket, ClientIdentity client, Handshake handshake) {
  connection_count_.fetch_add(1, std::memory_order_relaxed);
  asio::post(io_context(), [this, socket = std::move(socket), client = std::move(client),
                            handshake = std::move(handshake)]() mutable {
    if (draining_) return count_departure();
    metrics_.connections_served.add(1);
    admit(std::make_unique<SocketTransport>(io_context(), std::move(socket), std::move(client)),
          std::move(handshake));
  });
}

void Worker::arrive(std::unique_ptr<Transport> transport) {
  if (draining_) return count_departure();
  metrics_.connections_served.add(1);
  log::debug({.client = transport->peer()}, "{}: connected", transport->peer());
  auto visitor = receive_visitor(std::move(transport), bounds().handshake_deadline);
  limit_visitors();
  asio::co_spawn(io_context(), attend(std::move(visitor)), asio::detached);
}

std::shared_ptr<Worker::Visitor> Worker::receive_visitor(std::unique_ptr<Transport> transport,
                                                         std::chrono::seconds deadline) {
  auto visitor = std::make_shared<Visitor>(std::move(transport), Timer(io_context(), deadline));
  visitors_.push_back(visitor);
  visitor->deadline.async_wait([visitor](const boost::system::error_code& cancelled) {
    if (cancelled || !visitor->transport) return;
    const auto& peer = visitor->transport->peer();
    log::connection({.client = peer}, "{}: closed: its time is up", peer);
    visitor->transport->close();
  });
  return visitor;
}

void Worker::limit_visitors() {
  if (visitors_.size() <= bounds().handshakes_max_per_worker) return;
  // Slow or silent clients must not keep others out: the one that has had the most time goes.
  const auto oldest = visitors_.front();
  visitors_.erase(visitors_.begin());  // now: the next one may come before this one has gone
  log::connection<log::Level::warn>(
      {.client = oldest->transport->peer()},
      "{}: closed: {} clients are connected that have not chosen an export",
      oldest->transport->peer(), visitors_.size());
  oldest->transport->close();
}

void Worker::leave(const Visitor& visitor) {
  std::erase_if(visitors_, [&](const auto& entry) { return entry.get() == &visitor; });
}

void Worker::count_begin(const Connection& connection) {
  auto& queue = connection.queue();
  ++queue.connection_count;
  queue.metrics.connections_begun.add(1);
  if (connection.encrypted()) queue.metrics.tls_connections_begun.add(1);
}

void Worker::count_end(const Connection& connection) {
  auto& queue = connection.queue();
  --queue.connection_count;
  queue.metrics.connections_ended.add(1);
  if (connection.encrypted()) queue.metrics.tls_connections_ended.add(1);
}

void Worker::count_departure() {
  if (connection_count_.fetch_sub(1, std::memory_order_relaxed) == 1) idle_();
}

Awaitable<void> Worker::attend(std::shared_ptr<Visitor> visitor) {
  auto credentials = tls_ ? tls_->credentials() : nullptr;
  auto handshake =
      co_await shake_hands(visitor->transport, exports_, bounds(), std::move(credentials));
  visitor->deadline.cancel();
  leave(*visitor);
  if (!handshake || draining_ || !offers(*handshake)) {
    metrics_.handshakes_failed.add(1);
    log::debug({.client = visitor->transport->peer()}, "{}: closed", visitor->transport->peer());
    visitor->transport.reset();
    count_departure();
    co_return;
  }
  admit(std::move(visitor->transport), std::move(*handshake));
}

void Worker::admit(std::unique_ptr<Transport> transport, Handshake handshake) {
  auto connection = std::make_shared<Connection>(*this, std::move(transport), std::move(handshake));
  connections_.push_back(connection);
  count_begin(*connection);
  asio::co_spawn(io_context(), begin_transmission(std::move(connection)), asio::detached);
}

Awaitable<void> Worker::begin_transmission(std::shared_ptr<Connection> connection) {
  // A client that lost its connection may have left writes in the old one. They must not land after
  // what it writes now, so whatever a dead client still has under way comes first.
  const auto until = Timer::clock_type::now() + bounds().fence_deadline;
  for (const auto& worker : workers_) {
    auto waiting = worker->wait_for_dead_predecessors(connection, until);
    co_await asio::co_spawn(worker->io_context(), std::move(waiting), awaiting);
  }
  connection->start();
}

Awaitable<void> Worker::wait_for_dead_predecessors(std::shared_ptr<const Connection> newcomer,
                                                   Timer::time_point until) {
  // Predecessors only: two that wait here with their clients gone would wait for each other.
  auto dead = std::vector<std::shared_ptr<Connection>>{};
  const auto& target = newcomer->target();
  for (const auto& connection : connections_) {
    if (!connection->precedes(*newcomer)) continue;
    // A changed export may share the device with the one it has taken the place of.
    if (connection->target().shares_device(target) ? connection->client_is_gone()
                                                   : target.replaces(connection->target()))
      dead.push_back(connection);
  }
  if (dead.empty()) co_return;
  auto deadline = Timer(io_context(), until);
  deadline.async_wait([dead](const boost::system::error_code& cancelled) {
    if (cancelled) return;
    // Those that only have replies to deliver hold nobody up.
    for (const auto& connection : dead)
      if (!connection->spent()) connection->abandon("its client is gone and others wait for it");
  });
  while (!std::ranges::all_of(dead, [](const auto& connection) { return connection->spent(); }))
    co_await spent_.async_wait(as_result);
}

void Worker::remove(Connection& connection, std::unique_ptr<Transport> transport) {
  const auto place =
      std::ranges::find(connections_, &connection, [](const auto& entry) { return entry.get(); });
  graveyard_.push_back(std::move(*place));
  connections_.erase(place);
  count_end(connection);
  std::erase(scheduled_, &connection);
  std::erase(waiting_for_resources_, &connection);
  if (transport == nullptr) return count_departure();
  asio::co_spawn(io_context(),
                 see_off(receive_visitor(std::move(transport), bounds().linger_deadline)),
                 asio::detached);
}

Awaitable<void> Worker::see_off(std::shared_ptr<Visitor> visitor) {
  co_await linger(*visitor->transport);
  visitor->deadline.cancel();
  leave(*visitor);
  visitor->transport.reset();
  count_departure();
}

void Worker::bury() {
  graveyard_.clear();
  if (!retired_queues_.empty()) release_retired();
}

}  // namespace server
