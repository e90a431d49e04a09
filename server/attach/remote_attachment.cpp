#include "server/attach/remote_attachment.h"

#include <fmt/format.h>
#include <poll.h>
#include <sys/socket.h>
#include <sys/time.h>

#include <algorithm>
#include <exception>
#include <iterator>
#include <random>
#include <span>
#include <stdexcept>
#include <utility>

#include "server/base/log.h"
#include "server/base/text.h"

namespace server {
namespace {

constexpr auto connect_deadline = std::chrono::milliseconds(5000);
constexpr auto reconnect_delay_min = std::chrono::milliseconds(100);
constexpr auto reconnect_delay_max = std::chrono::milliseconds(5000);
// The kernel marks a connection dead in a thread of its own; until then it has no place for a new
// one.
constexpr auto offer_pause = std::chrono::milliseconds(50);
constexpr auto offers_max = 100U;
constexpr auto watch_period = std::chrono::seconds(1);
// A server that answers nothing for so long is given up.
constexpr std::uint32_t default_timeout_s = 30;

Attach with_timeout(Attach options) {
  if (!options.timeout_s) options.timeout_s = default_timeout_s;
  return options;
}

// The driver sets the send timeout of each socket that it takes to the device's timeout, and drops
// those it has no place for. It has no other sign for either.
bool is_taken(int socket) noexcept {
  auto timeout = timeval{};
  auto length = socklen_t{sizeof timeout};
  ::getsockopt(socket, SOL_SOCKET, SO_SNDTIMEO, &timeout, &length);
  return timeout.tv_sec != 0 || timeout.tv_usec != 0;
}

std::vector<int> sockets_of(const std::vector<engine::FileDescriptor>& links) {
  auto sockets = std::vector<int>{};
  for (const auto& link : links) sockets.push_back(link.get());
  return sockets;
}

// So that many clients of a server that comes back do not come back at the same moments.
std::chrono::milliseconds with_jitter(std::chrono::milliseconds delay) {
  static auto random = std::minstd_rand(std::random_device()());
  const auto most = delay.count() / 4;
  return delay + std::chrono::milliseconds(std::uniform_int_distribution(-most, most)(random));
}

}  // namespace

RemoteAttachment::RemoteAttachment(const Attach& options, Daemon& daemon, RemoteAddress address)
    : options_(with_timeout(options)),
      address_(std::move(address)),
      device_(options_, address_.canonical()),
      loop_(device_, daemon),
      retry_(loop_.io_context()),
      watch_(loop_.io_context()),
      retry_delay_(reconnect_delay_min) {
  if (device_.taken_over()) {
    take_over();
  } else {
    attach();
  }
}

void RemoteAttachment::attach() {
  while (links_.size() < device_.connections()) links_.push_back(connect());
  auto flags = transmission_flags_;
  if (options_.read_only) flags |= proto::transmission_flag::read_only;
  const auto size = size_ / options_.block_size * options_.block_size;
  if (size == 0)
    throw std::runtime_error(
        fmt::format("cannot attach {}: it has {} bytes, and a device needs "
                    "at least a block of {}",
                    address_.canonical(), size_, options_.block_size));
  device_.connect(size, flags, sockets_of(links_));
  device_.prepare_for_use();
}

// The connections of the process that died may be alive: the kernel has them. New ones take the
// place of those that are not; the others are not needed. Which ones these are cannot be known, so
// that those of a predecessor cannot be ended with the first that dies.
void RemoteAttachment::take_over() {
  log::info("{}: taking over from a process that has died", device_.path());
  size_ = device_.size();
  reconnecting_ = true;
  later(std::chrono::milliseconds(0));
}

engine::FileDescriptor RemoteAttachment::connect() {
  auto connection = connect_remote(address_, connect_deadline);
  const auto& offer = connection.remote_export;
  const auto fail = [&](std::string_view reason) {
    throw std::runtime_error(fmt::format("cannot attach {}: {}", address_.canonical(), reason));
  };
  namespace flag = proto::transmission_flag;
  if ((offer.transmission_flags & flag::read_only) != 0 && !options_.read_only)
    fail("the server offers it read-only; attach it with --read-only");
  if (offer.block_size_minimum > options_.block_size)
    fail(fmt::format("the server wants blocks of at least {} bytes; attach it with --block-size",
                     offer.block_size_minimum));
  if (options_.connections > 1 && (offer.transmission_flags & flag::can_multi_conn) == 0)
    fail("the server does not say that several connections see the same data; attach it with one");
  if (offer.size < size_) fail(fmt::format("it has shrunk from {} bytes to {}", size_, offer.size));
  if ((transmission_flags_ & ~offer.transmission_flags & (flag::send_flush | flag::send_fua)) != 0)
    fail("the server no longer makes data durable on demand (FLUSH and FUA)");
  if (size_ == 0) {
    size_ = offer.size;
    transmission_flags_ = offer.transmission_flags;
  }
  return std::move(connection.socket);
}

int RemoteAttachment::run() {
  log::info("{}: {}, {} bytes, {}", device_.path(), address_.canonical(), size_,
            plural(device_.connections(), "connection"));
  watch();
  loop_.run([this] { check_links(); });
  log::info("{}: detached", device_.path());
  return 0;
}

// The kernel announces the death of a connection, but not that somebody else has detached the
// device; and an announcement may come while the connections before these are being replaced.
void RemoteAttachment::watch() {
  watch_.expires_after(watch_period);
  watch_.async_wait([this](const boost::system::error_code& cancelled) {
    if (cancelled) return;
    if (!device_.replace_sockets({})) return loop_.end();
    if (any_link_dead()) check_links();
    watch();
  });
}

bool RemoteAttachment::any_link_dead() const noexcept {
  return std::ranges::any_of(links_, [](const auto& link) {
    auto state = pollfd{.fd = link.get(), .events = POLLRDHUP, .revents = 0};
    return ::poll(&state, 1, 0) > 0;
  });
}

// Of the connections that a predecessor handed over there is nothing but the announcement.
void RemoteAttachment::check_links() {
  if (reconnecting_ || loop_.ended()) return;
  if (links_.size() == device_.connections() && !any_link_dead()) return;
  lose_links();
}

void RemoteAttachment::lose_links() {
  log::warn("{}: connection lost; reconnecting to {}", device_.path(), address_.canonical());
  for (const auto& link : links_) abort_connection(link.get());
  links_.clear();
  reconnecting_ = true;
  reconnect();
}

void RemoteAttachment::reconnect() noexcept {
  if (loop_.ended()) return;
  try {
    if (!device_.replace_sockets({})) return loop_.end();
    while (offered_.size() + links_.size() < device_.connections()) offered_.push_back(connect());
    if (!hand_over()) return later(offer_pause);
    log::info("{}: reconnected", device_.path());
    last_failure_.clear();
    retry_delay_ = reconnect_delay_min;
    reconnecting_ = false;
  } catch (const std::exception& error) {
    // The first of a kind is news.
    if (std::exchange(last_failure_, error.what()) != error.what())
      log::warn("{}: {}; trying again", device_.path(), error.what());
    later(with_jitter(retry_delay_));
    retry_delay_ = std::min(2 * retry_delay_, reconnect_delay_max);
  }
}

// True when the kernel has as many connections as it has places for.
bool RemoteAttachment::hand_over() {
  device_.replace_sockets(sockets_of(offered_));
  const auto taken = std::partition(offered_.begin(), offered_.end(),
                                    [](const auto& link) { return !is_taken(link.get()); });
  std::move(taken, offered_.end(), std::back_inserter(links_));
  offered_.erase(taken, offered_.end());
  if (!offered_.empty() && ++offers_ < offers_max) return false;
  // Offers that are left over after so long have no place: their predecessors are alive.
  offered_.clear();
  offers_ = 0;
  return true;
}

void RemoteAttachment::later(std::chrono::milliseconds delay) {
  retry_.expires_after(delay);
  retry_.async_wait([this](const boost::system::error_code& cancelled) {
    if (!cancelled) reconnect();
  });
}

}  // namespace server
