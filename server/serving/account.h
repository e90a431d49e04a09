// The account of what one connection has done: for the counters, the log and people. Used on its
// worker's thread.
#pragma once

#include <chrono>
#include <cstdint>
#include <string>
#include <string_view>

#include "proto/request.h"
#include "server/base/log.h"
#include "server/base/metrics.h"
#include "server/export/export.h"
#include "server/export/export_queue.h"
#include "server/serving/client_state.h"
#include "server/serving/request.h"

namespace server {

class Account {
 public:
  // `queue` and `target` outlive this object. `slow`: how long a request takes that is worth a line
  // in the log.
  Account(ExportQueue& queue, Export& target, std::string peer, std::chrono::nanoseconds slow,
          const RequestTotals& totals = {})
      : queue_(queue), target_(target), peer_(std::move(peer)), slow_(slow), totals_(totals) {}

  // The last byte of its reply has been sent.
  void answered(const Request& request, Clock::time_point now) noexcept;
  // An operation of it has failed; `error` is what its reply says.
  void failed(const Request& request, int error_number, proto::Error error) noexcept;
  // It is under way for longer than is usual; `stage`: where it is. Said once.
  void report_slow(Request& request, std::string_view stage, Clock::time_point now) noexcept;

  const RequestTotals& totals() const noexcept { return totals_; }
  const std::string& peer() const noexcept { return peer_; }
  // For lines in the log; they refer to this object.
  log::Fields fields() const noexcept;
  log::Fields fields(const Request& request) const noexcept;

 private:
  void log_slow(const Request& request, Clock::time_point now) const noexcept;

  ExportQueue& queue_;
  Export& target_;
  const std::string peer_;
  const std::chrono::nanoseconds slow_;
  RequestTotals totals_;
};

}  // namespace server
