#include "server/net/transport.h"

#include <fcntl.h>
#include <poll.h>
#include <sys/ioctl.h>
#include <sys/socket.h>

#include <cerrno>
#include <utility>

namespace server {
namespace {

Descriptor adopt(asio::io_context& io_context, engine::FileDescriptor fd) {
  const auto flags = ::fcntl(fd.get(), F_GETFL);
  if (flags >= 0) ::fcntl(fd.get(), F_SETFL, flags | O_NONBLOCK);
  auto descriptor = Descriptor(io_context, fd.get());
  fd.release();
  return descriptor;
}

bool has_event(int fd, int events) noexcept {
  auto state = pollfd{.fd = fd, .events = static_cast<short>(events), .revents = 0};
  return ::poll(&state, 1, 0) > 0 && (state.revents & events) != 0;
}

}  // namespace

void Transport::cancel_waits() noexcept {
  auto ignored = boost::system::error_code{};
  stream_.input.cancel(ignored);
  if (stream_.output) stream_.output->cancel(ignored);
}

void Transport::end_output() noexcept {
  if (stream_.output) {
    // It may be one of two descriptors of a socket; the other one keeps that open.
    ::shutdown(stream_.output->native_handle(), SHUT_WR);
    auto ignored = boost::system::error_code{};
    stream_.output->close(ignored);
  } else if (stream_.input.is_open()) {
    ::shutdown(stream_.input.native_handle(), SHUT_WR);
  }
}

void Transport::close() noexcept {
  auto ignored = boost::system::error_code{};
  if (stream_.input.is_open()) stream_.input.close(ignored);
  if (stream_.output && stream_.output->is_open()) stream_.output->close(ignored);
}

bool Transport::peer_has_closed() noexcept {
  return has_event(input_descriptor(), POLLRDHUP | POLLHUP | POLLERR);
}

bool Transport::is_broken() noexcept {
  return has_event(writable().native_handle(), POLLHUP | POLLERR);
}

std::uint64_t Transport::unsent() noexcept {
  auto count = 0;
  const auto known = ::ioctl(writable().native_handle(), TIOCOUTQ, &count) == 0 && count > 0;
  return known ? static_cast<std::uint64_t>(count) : 0;
}

bool Transport::has_input() noexcept {
  auto count = 0;
  return has_buffered_input() || ::ioctl(input_descriptor(), FIONREAD, &count) != 0 || count > 0;
}

std::optional<std::size_t> Transport::peek_input(std::span<std::byte> memory) noexcept {
  if (!has_input()) return 0;
  if (!protection().empty()) return std::nullopt;
  const auto count =
      ::recv(input_descriptor(), memory.data(), memory.size(), MSG_PEEK | MSG_DONTWAIT);
  if (count < 0) return std::nullopt;
  return static_cast<std::size_t>(count);
}

SocketTransport::SocketTransport(asio::io_context& io_context, engine::FileDescriptor socket,
                                 ClientIdentity client)
    : Transport(Stream{.input = adopt(io_context, std::move(socket)),
                       .output = std::nullopt,
                       .client = std::move(client)}) {}

SocketTransport::SocketTransport(asio::io_context& io_context, engine::FileDescriptor input,
                                 engine::FileDescriptor output, ClientIdentity client)
    : Transport(Stream{.input = adopt(io_context, std::move(input)),
                       .output = adopt(io_context, std::move(output)),
                       .client = std::move(client)}) {}

ssize_t SocketTransport::read_some(std::span<const iovec> buffers) noexcept {
  for (;;) {
    const auto count =
        ::readv(stream_.input.native_handle(), buffers.data(), static_cast<int>(buffers.size()));
    if (count >= 0) return count;
    if (errno != EINTR) return -errno;
  }
}

ssize_t SocketTransport::write_some(std::span<const iovec> buffers) noexcept {
  // SIGPIPE is ignored by the process, since writev() has no flag against it and serves pipes as
  // well.
  for (;;) {
    const auto count =
        ::writev(writable().native_handle(), buffers.data(), static_cast<int>(buffers.size()));
    if (count >= 0) return count;
    if (errno != EINTR) return -errno;
  }
}

}  // namespace server
