#include "server/serving/starvation_watch.h"

#include <algorithm>

#include "server/serving/connection.h"

namespace server {

void StarvationWatch::start() {
  if (!running_) begin_period();
}

void StarvationWatch::begin_period() {
  running_ = true;
  for (const auto& connection : connections_) connection->forget_progress();
  timer_.expires_after(deadline_);
  timer_.async_wait([this](const boost::system::error_code& cancelled) {
    if (cancelled) return;
    relieve();
    running_ = false;
    if (!waiting_.empty()) begin_period();
  });
}

void StarvationWatch::relieve() {
  if (std::ranges::none_of(waiting_, &Connection::starving)) return;
  for (const auto& connection : connections_)
    if (connection->stalled())
      connection->abandon("it neither reads nor sends while others wait for the memory it holds");
}

}  // namespace server
