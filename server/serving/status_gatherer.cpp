#include "server/serving/status_gatherer.h"

#include <algorithm>
#include <optional>
#include <span>
#include <utility>

#include "server/export/export.h"
#include "server/serving/connection.h"
#include "server/serving/worker.h"

namespace server {
namespace {

// A worker that counts meanwhile may be seen to have ended more than it has begun.
std::uint64_t still_there(std::uint64_t begun, std::uint64_t ended) noexcept {
  return begun - std::min(begun, ended);
}

CommandStatus status_of(std::span<const ExportMetrics> workers, std::size_t index) {
  auto status = CommandStatus{};
  status.command = static_cast<proto::Command>(index);
  status.known = index + 1 < command_count;
  for (const auto& worker : workers) add_up(status, worker.commands[index]);
  status.answered = status.send.count();
  status.dropped = status.ended - std::min(status.ended, status.answered);
  status.in_flight = still_there(status.begun, status.ended);
  return status;
}

// Between the beginnings of two rounds of questions to the workers.
constexpr auto pause_between_rounds = std::chrono::milliseconds(20);

}  // namespace

ExportStatus status_of(const Export& target) {
  const auto serving = target.device();
  const auto& device = *serving;
  auto status = ExportStatus{};
  status.name = target.name();
  status.path = target.path();
  status.description = target.config().description;
  status.size = device.size();
  status.mode = device.mode();
  status.block_size = device.geometry().block_size;
  status.read_only = device.geometry().read_only;
  status.file_replaced = target.replaced();
  status.limits = target.limiter().all();
  status.client_limits = target.limiter().each_client();
  status.sync_error = device.sync_error();
  for (const auto& worker : target.metrics()) add_up(status, worker);
  status.connections = still_there(status.connections_begun, status.connections_ended);
  status.tls_connections = still_there(status.tls_connections_begun, status.tls_connections_ended);
  for (auto index = std::size_t{0}; index < command_count; ++index)
    if (static_cast<proto::Command>(index) != proto::Command::disconnect)
      status.commands.push_back(status_of(target.metrics(), index));
  return status;
}

WorkerStatus status_of(const Worker& worker) {
  auto status = WorkerStatus{};
  status.connections = worker.connection_count();
  add_up(status, worker.metrics());
  status.memory_budget = worker.bounds().memory_per_worker;
  return status;
}

StatusGatherer::StatusGatherer(asio::io_context& io_context,
                               const std::vector<std::unique_ptr<Worker>>& workers)
    : io_context_(io_context), workers_(workers), pause_(io_context) {}

std::shared_ptr<StatusGatherer::Round> StatusGatherer::join_next_round() {
  if (auto round = next_.lock()) return round;
  auto round = std::make_shared<Round>();
  round->clients.resize(workers_.size());
  next_ = round;
  pause_.expires_at(begun_at_ + pause_between_rounds);
  pause_.async_wait([this](const boost::system::error_code& cancelled) {
    if (!cancelled) begin_round();
  });
  return round;
}

void StatusGatherer::begin_round() {
  const auto round = next_.lock();
  next_.reset();
  if (!round) return;  // nobody waits any more
  begun_at_ = Clock::now();
  round->number = ++rounds_begun_;
  std::erase_if(rounds_, [](const auto& entry) { return entry.expired(); });
  rounds_.push_back(round);
  asked_.resize(workers_.size());
  for (auto worker = std::size_t{0}; worker < workers_.size(); ++worker)
    if (!asked_[worker]) ask(worker);
}

void StatusGatherer::ask(std::size_t worker) {
  asked_[worker] = true;
  const auto answer = [this, worker, number = rounds_begun_, &asked = *workers_[worker],
                       &io_context = io_context_] {
    auto clients = Clients{};
    for (const auto& connection : asked.connections()) {
      clients.push_back(connection->status());
      clients.back().worker = worker;
    }
    asio::post(io_context, [this, worker, number, clients = std::move(clients)] {
      take(worker, number, clients);
    });
  };
  asio::post(workers_[worker]->io_context(), answer);
}

void StatusGatherer::take(std::size_t worker, std::uint64_t number, const Clients& clients) {
  asked_[worker] = false;
  auto others_wait = false;
  for (const auto& entry : rounds_) {
    const auto round = entry.lock();
    if (!round || round->clients[worker]) continue;
    if (round->number > number) {
      others_wait = true;  // they asked after this answer's question, and may know better
      continue;
    }
    round->clients[worker] = clients;
    if (std::ranges::all_of(round->clients, &std::optional<Clients>::has_value))
      for (auto* const deadline : round->waiting) deadline->cancel();
  }
  if (others_wait) ask(worker);
}

Awaitable<ServerStatus> StatusGatherer::gather(std::shared_ptr<const ExportTable> exports,
                                               std::chrono::milliseconds deadline) {
  auto round = join_next_round();
  auto timer = Timer(io_context_, deadline + pause_between_rounds);
  round->waiting.push_back(&timer);
  co_await timer.async_wait(as_result);
  std::erase(round->waiting, &timer);
  auto status = ServerStatus{};
  for (const auto& target : exports->all()) status.exports.push_back(status_of(*target));
  for (auto index = std::size_t{0}; index < workers_.size(); ++index) {
    auto& worker = status.workers.emplace_back(status_of(*workers_[index]));
    const auto& clients = round->clients[index];
    worker.responding = clients.has_value();
    if (clients) worker.clients = *clients;
  }
  co_return status;
}

}  // namespace server
