#include "server/net/listener.h"

#include <sys/socket.h>

#include <cerrno>
#include <chrono>
#include <cstring>
#include <utility>

#include "server/base/log.h"
#include "server/net/socket_options.h"

namespace server {
namespace {

// Accepted before the event loop looks at anything else.
constexpr auto accepted_max_per_turn = 64;
constexpr auto pause_without_descriptors = std::chrono::milliseconds(100);

// Within a minute.
constexpr auto keep_alive = KeepAlive{
    .idle = std::chrono::seconds(30), .interval = std::chrono::seconds(10), .probes_max = 3};

}  // namespace

Listener::Listener(asio::io_context& io_context, ListeningSocket socket, Accepted accepted)
    : socket_(std::move(socket)),
      descriptor_(io_context, socket_.fd()),
      pause_(io_context),
      accepted_(std::move(accepted)) {
  wait();
}

Listener::~Listener() { descriptor_.release(); }

void Listener::wait() {
  descriptor_.async_wait(Descriptor::wait_read, [this, alive = std::weak_ptr(alive_)](
                                                    const boost::system::error_code& failure) {
    if (!failure && !alive.expired()) accept_all();
  });
}

void Listener::accept_all() {
  for (auto count = 0; count < accepted_max_per_turn; ++count) {
    auto socket = engine::FileDescriptor(
        ::accept4(socket_.fd(), nullptr, nullptr, SOCK_NONBLOCK | SOCK_CLOEXEC));
    const auto error = socket ? 0 : errno;
    if (error == EAGAIN) break;
    if (error == EMFILE || error == ENFILE || error == ENOBUFS || error == ENOMEM) {
      // The client stays in the backlog; accepting at once would fail again.
      log::error(
          "{}: cannot accept: {}; trying again (LimitNOFILE= or ulimit -n sets how many files may "
          "be open)",
          name(), std::strerror(error));
      pause_.expires_after(pause_without_descriptors);
      pause_.async_wait(
          [this, alive = std::weak_ptr(alive_)](const boost::system::error_code& cancelled) {
            if (!cancelled && !alive.expired()) wait();
          });
      return;
    }
    if (error != 0) continue;  // that client is gone already
    configure(socket.get(), keep_alive);
    auto client = identify(socket.get());
    accepted_(std::move(socket), std::move(client));
  }
  wait();
}

}  // namespace server
