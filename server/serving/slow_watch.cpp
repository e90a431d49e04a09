#include "server/serving/slow_watch.h"

#include <algorithm>

#include "server/serving/connection.h"

namespace server {
namespace {

using namespace std::chrono_literals;

// How late, as a part of the threshold, a request may be found.
constexpr auto looks_per_threshold = 4;
constexpr auto period_min = 10ms;
constexpr auto period_max = 1s;

}  // namespace

SlowWatch::SlowWatch(ConnectionHost& host, const ExportQueues& queues)
    : host_(host),
      queues_(queues),
      enabled_(host.bounds().slow_request != std::chrono::nanoseconds::max()),
      period_(std::clamp<std::chrono::nanoseconds>(host.bounds().slow_request / looks_per_threshold,
                                                   period_min, period_max)),
      timer_(host.io_context()) {}

void SlowWatch::start() {
  running_ = true;
  timer_.expires_after(period_);
  timer_.async_wait([this](const boost::system::error_code& cancelled) {
    if (cancelled) return;
    running_ = false;  // the end of this turn starts it again, if anything is under way
    report();
  });
}

void SlowWatch::report() {
  host_.read_clock();
  const auto now = host_.now();
  host_.requests().for_each_request([&](Request& request) {
    if (now - request.received >= host_.bounds().slow_request)
      request.connection->report_slow(request);
  });
  // Two queues count in one place when their exports are one that has taken the other's name.
  queues_.for_each([](ExportQueue& queue) { queue.metrics().requests_slow.set(0); });
  queues_.for_each(
      [](ExportQueue& queue) { queue.metrics().requests_slow.add(queue.take_slow_count()); });
}

}  // namespace server
