#include "test/bench/load.h"

#include <sys/epoll.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstring>
#include <limits>
#include <stdexcept>
#include <utility>

#include <fmt/format.h>

namespace bench {
namespace {

// Holds thousands of small replies or a quarter of a large one, and stays in the second-level
// cache.
constexpr std::size_t receive_buffer_size = 256U << 10;
constexpr std::uint64_t stall_limit = 30'000'000'000;  // nanoseconds
constexpr double nanoseconds = 1e9;

}  // namespace

Load::Load(const LoadOptions& options)
    : options_(options),
      epoll_(::epoll_create1(EPOLL_CLOEXEC)),
      receive_buffer_(receive_buffer_size) {
  if (epoll_.get() < 0) throw std::runtime_error("cannot make an epoll instance");
}

void Load::add(Session session, Workload workload, const ConnectionOptions& options,
               const Content& content) {
  auto connection = std::make_unique<Connection>(std::move(session), std::move(workload), options,
                                                 content, results_);
  epoll_event event{.events = EPOLLIN, .data = {.u64 = members_.size()}};
  if (::epoll_ctl(epoll_.get(), EPOLL_CTL_ADD, connection->socket(), &event) != 0) {
    throw std::runtime_error(fmt::format("cannot watch a socket: {}", std::strerror(errno)));
  }
  members_.push_back({.connection = std::move(connection)});
}

void Load::run() {
  started_at_ = monotonic_time();
  for (auto& member : members_) top_up(member);
  while (anything_in_flight() || !finished(monotonic_time())) turn();
  if (options_.flush_at_end) flush_once();
  seconds_ = static_cast<double>(monotonic_time() - started_at_) / nanoseconds;
}

bool Load::finished(std::uint64_t now) const noexcept {
  if (options_.count > 0 && issued_ >= options_.count) return true;
  if (options_.seconds > 0 &&
      static_cast<double>(now - started_at_) >= options_.seconds * nanoseconds)
    return true;
  return std::all_of(members_.begin(), members_.end(),
                     [](const Member& member) { return member.lost; });
}

bool Load::anything_in_flight() const noexcept {
  return std::any_of(members_.begin(), members_.end(), [](const Member& member) {
    return !member.lost && member.connection->in_flight() > 0;
  });
}

std::uint64_t Load::allowance(std::uint64_t now) const noexcept {
  if (finished(now)) return 0;
  std::uint64_t allowed = std::numeric_limits<std::uint64_t>::max();
  if (options_.count > 0) allowed = options_.count - issued_;
  if (options_.rate > 0) {
    const double due = static_cast<double>(now - started_at_) / nanoseconds * options_.rate;
    const auto due_count = static_cast<std::uint64_t>(due) + 1;
    allowed = std::min(allowed, due_count > issued_ ? due_count - issued_ : 0);
  }
  return allowed;
}

void Load::top_up(Member& member) {
  if (member.lost) return;
  try {
    const std::uint64_t now = monotonic_time();
    issued_ += member.connection->fill(allowance(now), now);
    member.connection->send();
    watch(member);
  } catch (const std::runtime_error& error) {
    lose(member, error.what());
  }
}

// A lone connection with everything sent needs no epoll: it sleeps in recv.
void Load::turn() {
  Member& first = members_.front();
  const bool alone = members_.size() == 1 && !first.lost && first.connection->in_flight() > 0 &&
                     !first.connection->has_unsent() && options_.rate == 0;
  if (!alone) return wait_and_serve();
  try {
    first.connection->receive(receive_buffer_, true);
  } catch (const std::runtime_error& error) {
    lose(first, error.what());
  }
  top_up(first);
}

void Load::wait_and_serve() {
  const std::uint64_t now = monotonic_time();
  std::uint64_t patience = stall_limit;
  if (options_.rate > 0 && !finished(now)) {
    const auto next_due =
        static_cast<std::uint64_t>(static_cast<double>(issued_) / options_.rate * nanoseconds);
    const std::uint64_t passed = now - started_at_;
    patience = next_due > passed ? next_due - passed : 0;
    if (options_.seconds > 0) {
      // No further than the end of the run, however seldom requests are due.
      const auto end = static_cast<std::uint64_t>(options_.seconds * nanoseconds);
      patience = std::min(patience, end - std::min(end, passed));
    }
  }
  const timespec timeout{.tv_sec = static_cast<time_t>(patience / 1'000'000'000),
                         .tv_nsec = static_cast<long>(patience % 1'000'000'000)};
  std::array<epoll_event, 64> events;
  const int count = ::epoll_pwait2(epoll_.get(), events.data(), static_cast<int>(events.size()),
                                   &timeout, nullptr);
  const int error = errno;
  if (count < 0 && error != EINTR)
    throw std::runtime_error(fmt::format("epoll_pwait2: {}", std::strerror(error)));
  for (int i = 0; i < count; ++i) {
    const epoll_event& event = events[static_cast<std::size_t>(i)];
    serve(members_[event.data.u64], event.events);
  }
  if (count != 0) return;
  if (patience == stall_limit) {
    for (auto& member : members_) lose(member, "the server has not answered for 30 seconds");
  }
  for (auto& member : members_) top_up(member);
}

void Load::serve(Member& member, std::uint32_t events) {
  if (member.lost) return;
  try {
    if ((events & ~static_cast<std::uint32_t>(EPOLLOUT)) != 0)
      member.connection->receive(receive_buffer_, false);
  } catch (const std::runtime_error& error) {
    lose(member, error.what());
  }
  top_up(member);
}

void Load::watch(Member& member) {
  if (member.connection->has_unsent() == member.watched_for_output) return;
  member.watched_for_output = !member.watched_for_output;
  const auto index = static_cast<std::uint64_t>(&member - members_.data());
  epoll_event event{.events = EPOLLIN, .data = {.u64 = index}};
  if (member.watched_for_output) event.events |= EPOLLOUT;
  if (::epoll_ctl(epoll_.get(), EPOLL_CTL_MOD, member.connection->socket(), &event) != 0) {
    throw std::runtime_error(fmt::format("cannot watch a socket: {}", std::strerror(errno)));
  }
}

void Load::lose(Member& member, std::string_view reason) {
  if (std::exchange(member.lost, true)) return;
  ::epoll_ctl(epoll_.get(), EPOLL_CTL_DEL, member.connection->socket(), nullptr);
  results_.failures.push_back(fmt::format("a connection was lost with {} requests in flight: {}",
                                          member.connection->in_flight(), reason));
}

void Load::flush_once() {
  Member& first = members_.front();
  if (first.lost) return;
  try {
    first.connection->add({.command = proto::Command::flush}, monotonic_time());
    first.connection->send();
    while (first.connection->in_flight() > 0) first.connection->receive(receive_buffer_, true);
  } catch (const std::runtime_error& error) {
    lose(first, error.what());
  }
}

}  // namespace bench
