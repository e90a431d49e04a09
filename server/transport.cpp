#include "server/transport.h"

#include <fcntl.h>
#include <poll.h>
#include <sys/socket.h>

#include <cerrno>
#include <utility>

namespace server {
namespace {

int nonblocking(int fd) noexcept {
  const auto flags = ::fcntl(fd, F_GETFL);
  if (flags >= 0) ::fcntl(fd, F_SETFL, flags | O_NONBLOCK);
  return fd;
}

}  // namespace

Transport::Transport(asio::io_context& io_context, UniqueFd socket, std::string peer)
    : input_(io_context, nonblocking(socket.get())), peer_(std::move(peer)) {
  socket.release();
}

Transport::Transport(asio::io_context& io_context, UniqueFd input, UniqueFd output,
                     std::string peer)
    : input_(io_context, nonblocking(input.get())), peer_(std::move(peer)) {
  input.release();
  output_.emplace(io_context, nonblocking(output.get()));
  output.release();
}

ssize_t Transport::read_some(std::span<const iovec> buffers) noexcept {
  for (;;) {
    const auto count =
        ::readv(input_.native_handle(), buffers.data(), static_cast<int>(buffers.size()));
    if (count >= 0) return count;
    if (errno != EINTR) return -errno;
  }
}

ssize_t Transport::write_some(std::span<const iovec> buffers) noexcept {
  // SIGPIPE is ignored by the process, since writev() has no flag against it and serves pipes as
  // well.
  for (;;) {
    const auto count =
        ::writev(writable().native_handle(), buffers.data(), static_cast<int>(buffers.size()));
    if (count >= 0) return count;
    if (errno != EINTR) return -errno;
  }
}

void Transport::end_output() noexcept {
  if (output_) {
    auto ignored = boost::system::error_code{};
    output_->close(ignored);
  } else if (input_.is_open()) {
    ::shutdown(input_.native_handle(), SHUT_WR);
  }
}

void Transport::close() noexcept {
  auto ignored = boost::system::error_code{};
  if (input_.is_open()) input_.close(ignored);
  if (output_ && output_->is_open()) output_->close(ignored);
}

bool Transport::peer_has_closed() noexcept {
  if (!input_.is_open()) return true;
  auto state = pollfd{.fd = input_.native_handle(), .events = POLLRDHUP, .revents = 0};
  return ::poll(&state, 1, 0) > 0 && (state.revents & (POLLRDHUP | POLLHUP | POLLERR)) != 0;
}

}  // namespace server
