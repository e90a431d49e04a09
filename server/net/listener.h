// Accepts connections on one listening socket. Used on the thread of its io_context.
#pragma once

#include <functional>
#include <memory>
#include <string>

#include "engine/file_descriptor.h"
#include "server/base/asio.h"
#include "server/net/listen_address.h"
#include "server/policy/client_identity.h"

namespace server {

class Listener {
 public:
  using Accepted = std::function<void(engine::FileDescriptor socket, ClientIdentity client)>;

  // `accepted` is called for each connection, a connected non-blocking socket.
  Listener(asio::io_context& io_context, ListeningSocket socket, Accepted accepted);
  ~Listener();
  Listener(const Listener&) = delete;
  Listener& operator=(const Listener&) = delete;

  const std::string& name() const noexcept { return socket_.name(); }

 private:
  void wait();
  void accept_all();

  ListeningSocket socket_;
  Descriptor descriptor_;  // the socket's file descriptor; not ours to close
  Timer pause_;
  // The handler of a wait that is over may still be to come when the listener is closed.
  const std::shared_ptr<void> alive_ = std::make_shared<char>();
  Accepted accepted_;
};

}  // namespace server
