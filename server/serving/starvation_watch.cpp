#include "server/serving/starvation_watch.h"

#include <algorithm>
#include <boost/asio/post.hpp>

#include "server/serving/connection.h"

namespace server {
namespace {

constexpr auto looks_per_period = std::size_t{50};

}  // namespace

void StarvationWatch::start() {
  if (looks_left_ == 0) begin_period();
}

void StarvationWatch::begin_period() {
  looks_left_ = looks_per_period;
  for (const auto& connection : connections_) connection->begin_progress();
  wait_for_look();
}

void StarvationWatch::wait_for_look() {
  timer_.expires_after(period_ / looks_per_period);
  timer_.async_wait([this](const boost::system::error_code& cancelled) {
    if (!cancelled) look();
  });
}

void StarvationWatch::look() {
  if (waiting_.empty()) {
    looks_left_ = 0;
    return;
  }
  // The kernel says that a socket has room again only when a third of it is free.
  for (const auto& connection : connections_) connection->push_replies();
  if (--looks_left_ > 0) return wait_for_look();
  looks_left_ = looks_per_period;  // until this is over
  slow_.clear();
  if (std::ranges::any_of(waiting_, &Connection::starving)) find_slow();
  end_slowest();
}

void StarvationWatch::find_slow() {
  for (const auto& connection : connections_) {
    const auto progress = connection->progress();
    if (progress.too_slow(period_)) slow_.emplace_back(progress, connection);
  }
  std::ranges::sort(
      slow_, [](const Slow& one, const Slow& other) { return other.first.slower_than(one.first); });
}

// One a turn, since others may have got what they need by then.
void StarvationWatch::end_slowest() {
  if (slow_.empty() || !more_is_needed()) {
    slow_.clear();
    return begin_period();
  }
  if (const auto connection = slow_.back().second.lock())
    connection->abandon("it reads or sends too slowly, while others wait for the memory it holds");
  slow_.pop_back();
  asio::post(host_.io_context(), [this] { end_slowest(); });
}

// For those that starve, or for what they will ask for next.
bool StarvationWatch::more_is_needed() const {
  return std::ranges::any_of(waiting_, &Connection::starving) ||
         host_.buffers().free() < host_.bounds().memory_per_worker / 8;
}

}  // namespace server
