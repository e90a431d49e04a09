#include "server/control/control_socket.h"

#include <sys/socket.h>

#include <array>
#include <boost/asio/buffer.hpp>
#include <boost/asio/read_until.hpp>
#include <boost/asio/write.hpp>
#include <chrono>
#include <utility>

#include "server/base/log.h"
#include "server/control/control_request.h"

namespace server {
namespace {

constexpr std::size_t sessions_max = 16;
constexpr auto silence_max = std::chrono::seconds(60);

}  // namespace

struct ControlSocket::Session : std::enable_shared_from_this<Session> {
  Session(asio::io_context& io_context, engine::FileDescriptor socket,
          std::shared_ptr<const Answer> answering)
      : stream(io_context, socket.release()), deadline(io_context), answer(std::move(answering)) {}

  // A client that says nothing for so long, or does not read, is not waited for.
  void expect_progress() {
    deadline.expires_after(silence_max);
    deadline.async_wait([entry = weak_from_this()](const boost::system::error_code& cancelled) {
      const auto self = entry.lock();
      auto ignored = boost::system::error_code{};
      if (!cancelled && self != nullptr) self->stream.close(ignored);
    });
  }

  Descriptor stream;
  Timer deadline;
  const std::shared_ptr<const Answer> answer;
};

ControlSocket::ControlSocket(asio::io_context& io_context, ListeningSocket socket, Answer answer)
    : io_context_(io_context),
      answer_(std::make_shared<const Answer>(std::move(answer))),
      listener_(io_context, std::move(socket),
                [this](engine::FileDescriptor client, const ClientIdentity& identity) {
                  accept(std::move(client), identity.name);
                }) {}

void ControlSocket::accept(engine::FileDescriptor socket, const std::string& peer) {
  std::erase_if(sessions_, [](const auto& entry) { return entry.expired(); });
  if (sessions_.size() >= sessions_max) {
    log::warn("control socket: {} refused: {} others are connected", peer, sessions_.size());
    return;
  }
  log::debug("control socket: {} connected", peer);
  auto session = std::make_shared<Session>(io_context_, std::move(socket), answer_);
  sessions_.push_back(session);
  asio::co_spawn(io_context_, serve(std::move(session)), asio::detached);
}

// So that the reply is not lost to a reset: what a client still sends is read until it has seen
// that there is no more for it, or the deadline closes the stream.
Awaitable<void> ControlSocket::discard_rest(std::shared_ptr<Session> session) {
  ::shutdown(session->stream.native_handle(), SHUT_WR);
  auto ignored = std::array<char, 4096>{};
  const auto room = asio::buffer(ignored);
  for (;;) {
    const auto [failure, count] = co_await session->stream.async_read_some(room, as_result);
    if (failure) co_return;
  }
}

Awaitable<void> ControlSocket::serve(std::shared_ptr<Session> session) {
  auto input = std::string{};
  for (;;) {
    session->expect_progress();
    auto buffer = asio::dynamic_buffer(input, control_line_size_max);
    const auto [failure, length] =
        co_await asio::async_read_until(session->stream, buffer, '\n', as_result);
    session->deadline.cancel();
    auto reply = std::string{};
    if (failure == asio::error::not_found) {
      reply = encode_control_error(
          fmt::format("a request is a line of at most {} bytes", control_line_size_max));
    } else if (failure) {
      break;
    } else {
      auto line = input.substr(0, length - 1);
      input.erase(0, length);
      auto answering = (*session->answer)(std::move(line));
      reply = co_await std::move(answering);
    }
    session->expect_progress();
    const auto written = asio::buffer(reply);
    const auto [write_failure, written_count] =
        co_await asio::async_write(session->stream, written, as_result);
    if (write_failure) break;
    if (failure) {
      co_await discard_rest(session);
      break;
    }
  }
  session->deadline.cancel();
}

}  // namespace server
