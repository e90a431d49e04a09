// Gathers the status of the server for those who ask for it. Counters are read where the workers
// keep them; each worker is asked for the rest by post(), so that nothing it owns is touched from
// outside. Used on the thread of its io_context.
#pragma once

#include <chrono>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <optional>
#include <vector>

#include "server/base/asio.h"
#include "server/base/metrics.h"
#include "server/serving/status.h"

namespace server {

class Export;
class ExportTable;
class Worker;

// Any thread. Whether it is paused is not known here.
ExportStatus status_of(const Export& target);
WorkerStatus status_of(const Worker& worker);

// However many ask, a worker has only one question waiting for it, and few in a second.
class StatusGatherer {
 public:
  // Both outlive the workers' threads and this object.
  StatusGatherer(asio::io_context& io_context, const std::vector<std::unique_ptr<Worker>>& workers);
  StatusGatherer(const StatusGatherer&) = delete;
  StatusGatherer& operator=(const StatusGatherer&) = delete;

  // The exports and workers as they are after this call; `clients` and `responding` of those
  // workers that answer within `deadline`.
  Awaitable<ServerStatus> gather(std::shared_ptr<const ExportTable> exports,
                                 std::chrono::milliseconds deadline);

 private:
  using Clients = std::vector<ConnectionStatus>;

  // A round answers all who asked at about the same time; they own it.
  struct Round {
    std::vector<std::optional<Clients>> clients;  // by worker
    std::uint64_t number = 0;                     // of rounds begun; zero: not yet
    std::vector<Timer*> waiting;
  };

  std::shared_ptr<Round> join_next_round();
  void begin_round();
  void ask(std::size_t worker);
  void take(std::size_t worker, std::uint64_t number, const Clients& clients);

  asio::io_context& io_context_;
  const std::vector<std::unique_ptr<Worker>>& workers_;
  Timer pause_;  // until the next round begins
  Clock::time_point begun_at_;
  std::uint64_t rounds_begun_ = 0;
  std::weak_ptr<Round> next_;
  std::vector<std::weak_ptr<Round>> rounds_;  // begun
  std::vector<bool> asked_;                   // a question or its answer is on its way, by worker
};

}  // namespace server
