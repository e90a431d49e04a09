#include "server/serving/worker.h"

#include <fmt/format.h>
#include <pthread.h>

#include <algorithm>
#include <exception>
#include <iterator>
#include <new>
#include <utility>

#include "server/base/log.h"
#include "server/serving/connection.h"
#include "server/serving/request_rules.h"

namespace server {
namespace {

// Rounds of one turn before the sockets are looked at again.
constexpr auto rounds_max = 8;

// With its place in the order in which clients have come.
ClientIdentity numbered(ClientIdentity client) noexcept {
  static std::atomic<std::uint64_t> count{0};
  client.ticket = ++count;
  return client;
}

}  // namespace

Worker::Worker(const Bounds& bounds, std::shared_ptr<const ExportTable> exports, Workers& workers,
               std::shared_ptr<const TlsContext> tls)
    : ConnectionHost(bounds),
      workers_(workers),
      index_(workers.size()),
      work_(asio::make_work_guard(io_context())),
      queues_(*this, index_, std::move(exports)),
      reception_(*this, queues_, std::move(tls), metrics_,
                 {.negotiated =
                      [this](std::unique_ptr<Transport> transport, Handshake handshake) {
                        begin(std::move(transport), std::move(handshake));
                      },
                  .gone = [this] { count_gone(); }}),
      fence_(io_context()),
      starvation_watch_(*this, connections_, waiting_for_resources_),
      slow_watch_(*this, queues_) {}

Worker::~Worker() {
  stop();
  join();
}

void Worker::add_export(const std::shared_ptr<Export>& target) {
  queues_.add(make_queue(target, bounds().queue_depth));
}

void Worker::on_released(std::function<void(LooseQueue)> released) {
  queues_.on_released(std::move(released));
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
  // All that is ready shares the submission and the replies. One client's requests come together
  // as it is, and to ask for more costs a system call.
  if (connections_.size() != 1) io_context().poll();
  run_until_waiting();
  removed_.clear();
  queues_.release_retired();
  slow_watch_.start_if_needed();
  metrics_.turns.add(1);
  metrics_.memory_in_use.set(buffers().in_use());
}

void Worker::run_first() {
  // A client that waits for each reply sends its next request before this thread could sleep and
  // wake up: poll first.
  if (bounds().busy_poll.count() > 0 && !connections_.empty()) {
    const auto until = Timer::clock_type::now() + bounds().busy_poll;
    do {
      if (io_context().poll_one() > 0) return;
    } while (Timer::clock_type::now() < until);
  }
  io_context().run_one();
}

void Worker::run_until_waiting() {
  auto busy = true;
  for (auto round = 0; busy && round < rounds_max; ++round) {
    busy = queues_.run();
    busy = run_connections() || busy;
  }
  queues_.wait_for_completions();
  if (busy) asio::post(io_context(), [] {});
}

bool Worker::run_connections() {
  scheduled_now_.clear();
  scheduled_now_.swap(scheduled_);
  for (auto* const connection : scheduled_now_) connection->run();
  if (scheduled_now_.empty() || waiting_for_resources_.empty()) return !scheduled_now_.empty();
  // Replies have gone, so slots and buffers may be free. Connections that still get none wait
  // again, in the same order.
  scheduled_now_.clear();
  scheduled_now_.swap(waiting_for_resources_);
  read_clock();
  for (auto* const connection : scheduled_now_) connection->resources_freed();
  find_scarcity();
  return true;
}

void Worker::find_scarcity() {
  set_scarce(std::ranges::any_of(waiting_for_resources_, &Connection::holds_nothing));
}

void Worker::wait_for_resources(Connection& connection) {
  waiting_for_resources_.push_back(&connection);
  if (connection.holds_nothing()) set_scarce(true);
  starvation_watch_.start();
  metrics_.resource_waits.add(1);
}

void Worker::serve(engine::FileDescriptor socket, ClientIdentity client) {
  receive([this, socket = std::move(socket), client = numbered(std::move(client))]() mutable {
    reception_.accept(
        std::make_unique<SocketTransport>(io_context(), std::move(socket), std::move(client)));
  });
}

void Worker::serve(engine::FileDescriptor input, engine::FileDescriptor output,
                   ClientIdentity client) {
  receive([this, input = std::move(input), output = std::move(output),
           client = numbered(std::move(client))]() mutable {
    reception_.accept(std::make_unique<SocketTransport>(io_context(), std::move(input),
                                                        std::move(output), std::move(client)));
  });
}

void Worker::serve(engine::FileDescriptor socket, ClientState state) {
  receive([this, socket = std::move(socket), state = std::move(state)]() mutable {
    auto client = numbered(state.client);
    reception_.accept(
        std::make_unique<SocketTransport>(io_context(), std::move(socket), std::move(client)),
        std::move(state));
  });
}

template <typename Accept>
void Worker::receive(Accept accept) {
  connection_count_.fetch_add(1, std::memory_order_relaxed);
  asio::post(io_context(), [this, accept = std::move(accept)]() mutable {
    try {
      accept();
    } catch (const std::exception& failure) {
      log::error({}, "a client is closed: {}", failure.what());
      count_gone();
    }
  });
}

void Worker::begin(std::unique_ptr<Transport> transport, Handshake handshake) {
  // Before it has its place in the order of connections: of two that begin at once, the one with
  // the later place knows of the other.
  if (!is_read_only(handshake.state.negotiated.export_description.transmission_flags))
    handshake.target->note_writer(transport->client().ticket);
  auto connection = std::make_shared<Connection>(*this, std::move(transport), std::move(handshake));
  connections_.push_back(connection);
  auto& queue = connection->queue();
  queue.add_connection();
  queue.metrics().connections_begun.add(1);
  if (connection->encrypted()) queue.metrics().tls_connections_begun.add(1);
  if (!connection->read_only()) watch(*connection);
  static constexpr auto reason = std::string_view("the server is out of memory");
  const auto ended = [connection](const std::exception_ptr& failure) {
    if (failure) connection->abandon(reason);
  };
  try {
    asio::co_spawn(io_context(), begin_transmission(connection), ended);
  } catch (const std::bad_alloc&) {
    connection->abandon(reason);
  }
}

void Worker::watch(Connection& connection) {
  if (!fence_.watch(connection)) return connection.abandon("the kernel cannot watch it, too");
  // Writes that it has left would land behind what a client that came later, perhaps in its place,
  // has been told is written.
  if (connection.target().latest_writer() > connection.ticket() && connection.is_late())
    connection.abandon("its client is gone, and others that came later are served already");
}

Awaitable<void> Worker::begin_transmission(std::shared_ptr<Connection> connection) {
  const auto deadline = Timer::clock_type::now() + bounds().fence_deadline;
  for (const auto& worker : workers_) {
    auto waiting = worker->fence_.wait_for_predecessors(connection, deadline);
    co_await asio::co_spawn(worker->io_context(), std::move(waiting), awaiting);
  }
  connection->start();
}

void Worker::remove(Connection& connection, std::unique_ptr<Transport> transport) {
  const auto place =
      std::ranges::find(connections_, &connection, [](const auto& entry) { return entry.get(); });
  removed_.push_back(std::move(*place));
  connections_.erase(place);
  auto& queue = connection.queue();
  queue.remove_connection();
  if (queue.connection_count() == 0) queues_.suspend_soon(queue);
  queue.metrics().connections_ended.add(1);
  if (connection.encrypted()) queue.metrics().tls_connections_ended.add(1);
  std::erase(scheduled_, &connection);
  std::erase(waiting_for_resources_, &connection);
  find_scarcity();
  fence_.note_spent(connection);
  if (transport == nullptr) return count_gone();
  reception_.linger(std::move(transport));
}

void Worker::count_gone() {
  if (connection_count_.fetch_sub(1, std::memory_order_relaxed) == 1) idle_();
}

void Worker::retire(const std::vector<std::shared_ptr<Export>>& retired, Departure departure) {
  auto concerned = std::vector<std::shared_ptr<Connection>>{};
  for (const auto& target : retired) {
    auto* const queue = queues_.find(*target);
    if (queue == nullptr) continue;  // it has left earlier, and its clients, too
    queues_.retire(*queue, departure != Departure::keep);
    std::ranges::move(connections_of(*queue), std::back_inserter(concerned));
  }
  end(concerned, departure, "its export is gone");
}

void Worker::adopt(std::shared_ptr<const ExportTable> exports, std::vector<LooseQueue> queues) {
  queues_.adopt(std::move(exports), std::move(queues));
}

Awaitable<bool> Worker::wait_for_rest(std::vector<std::shared_ptr<Export>> group,
                                      Clock::time_point deadline) {
  return queues_.wait_for_rest(std::move(group), deadline);
}

void Worker::exchange(LooseQueue& loose) {
  auto* const queue = queues_.exchange(loose);
  if (queue == nullptr) return;
  for (const auto& connection : connections_of(*queue))
    if (connection->export_size() > queue->device()->size())
      connection->abandon("its export has become smaller");
}

void Worker::resume(const Export& target) {
  auto* const queue = queues_.find(target);
  if (queue == nullptr) return;  // it left before it was held
  requests().for_each_request([queue](Request& request) {
    if (request.state == RequestState::held && &request.connection->queue() == queue)
      request.enter(RequestState::on_device);
  });
  queues_.resume(*queue);
  for (const auto& connection : connections_of(*queue)) connection->queue_released();
}

std::size_t Worker::end_connections(const std::function<bool(const Connection&)>& chosen,
                                    Departure departure) {
  auto concerned = std::vector<std::shared_ptr<Connection>>{};
  std::ranges::copy_if(connections_, std::back_inserter(concerned),
                       [&](const auto& connection) { return chosen(*connection); });
  end(concerned, departure, "it was told to");
  return concerned.size();
}

void Worker::limits_changed(const Export& target) {
  for (const auto& connection : connections_)
    if (&connection->target().limiter() == &target.limiter()) connection->limits_changed();
}

std::size_t Worker::connection_count(const Export& target) const {
  const auto* const queue = queues_.find(target);
  return queue == nullptr ? 0 : queue->connection_count();
}

// A copy: to end a connection may remove it.
std::vector<std::shared_ptr<Connection>> Worker::connections_of(const ExportQueue& queue) const {
  auto found = std::vector<std::shared_ptr<Connection>>{};
  std::ranges::copy_if(connections_, std::back_inserter(found),
                       [&](const auto& connection) { return &connection->queue() == &queue; });
  return found;
}

void Worker::end(const std::vector<std::shared_ptr<Connection>>& connections, Departure departure,
                 std::string_view reason) {
  if (departure == Departure::keep || connections.empty()) return;
  if (departure == Departure::now) {
    for (const auto& connection : connections) connection->abandon(reason);
    return;
  }
  for (const auto& connection : connections) connection->end_input();
  auto remaining = std::vector<std::weak_ptr<Connection>>(connections.begin(), connections.end());
  auto deadline = std::make_shared<Timer>(io_context(), bounds().drain_deadline);
  deadline->async_wait(
      [deadline, remaining = std::move(remaining)](const boost::system::error_code& cancelled) {
        if (cancelled) return;
        for (const auto& entry : remaining)
          if (const auto connection = entry.lock())
            connection->abandon("it did not read its replies in time");
      });
}

void Worker::drain() {
  asio::post(io_context(), [this] {
    reception_.drain();
    const auto connections = connections_;  // to end one may remove it
    end(connections, Departure::drain, "");
  });
}

}  // namespace server
