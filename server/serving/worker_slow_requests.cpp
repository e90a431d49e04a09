// The part of Worker that finds requests that take too long while they are still under way: of a
// disk that hangs, no reply would ever tell. It looks at all of them now and then, so that none
// pays for it.
#include <algorithm>
#include <chrono>

#include "server/serving/connection.h"
#include "server/serving/worker.h"

namespace server {
namespace {

using namespace std::chrono_literals;

// How late, as a part of the threshold, one may be found.
constexpr auto looks_per_threshold = 4;
constexpr auto pause_min = 10ms;
constexpr auto pause_max = 1s;

}  // namespace

void Worker::watch_for_slow_requests() {
  watching_for_slow_ = true;
  slow_watch_.expires_after(std::clamp<std::chrono::nanoseconds>(
      bounds().slow_request / looks_per_threshold, pause_min, pause_max));
  slow_watch_.async_wait([this](const boost::system::error_code& cancelled) {
    if (cancelled) return;
    watching_for_slow_ = false;  // goes on at the end of this turn, if anything is under way
    report_slow_requests();
  });
}

void Worker::report_slow_requests() {
  read_clock();
  for (const auto& [target, queue] : queues_) queue->slow_count = 0;
  requests().for_each_request([this](Request& request) {
    if (now() - request.received >= bounds().slow_request) request.connection->report_slow(request);
  });
  // Two that count in one place are an export and what has taken its name.
  for (const auto& [target, queue] : queues_) queue->metrics.requests_slow.set(0);
  for (const auto& [target, queue] : queues_) queue->metrics.requests_slow.add(queue->slow_count);
}

}  // namespace server
