// The Unix socket that `loopnbd ctl` talks to: lines in, lines out, one answer for each. Used on
// the thread of its io_context. The socket file's mode lets its owner alone connect.
#pragma once

#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "server/base/asio.h"
#include "server/net/listener.h"

namespace server {

inline constexpr std::size_t control_line_size_max = 64U << 10;  // bytes of a request

class ControlSocket {
 public:
  // Gives the reply to a request, both without and with the end of the line. Does not throw.
  using Answer = std::function<Awaitable<std::string>(std::string line)>;

  ControlSocket(asio::io_context& io_context, ListeningSocket socket, Answer answer);

  const std::string& name() const noexcept { return listener_.name(); }

 private:
  struct Session;

  void accept(engine::FileDescriptor socket, const std::string& peer);
  static Awaitable<void> discard_rest(std::shared_ptr<Session> session);
  static Awaitable<void> serve(std::shared_ptr<Session> session);

  asio::io_context& io_context_;
  const std::shared_ptr<const Answer> answer_;
  std::vector<std::weak_ptr<Session>> sessions_;
  Listener listener_;
};

}  // namespace server
