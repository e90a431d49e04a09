// Answers GET and HEAD over HTTP for those who watch the server: /healthz, /readyz, /metrics,
// /status. Runs beside the accepting of connections, on the thread of its io_context; no worker
// has anything to do with it but to answer a post().
//
// A client has limited time and bytes for its request, and of many clients the oldest goes first.
#pragma once

#include <chrono>
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "server/base/asio.h"
#include "server/net/listen_address.h"
#include "server/net/listener.h"
#include "server/serving/status.h"

namespace server {

class HttpServer {
 public:
  // Asks the server; called on the io_context's thread.
  using AskStatus = std::function<Awaitable<ServerStatus>()>;

  // Listens from now on. `ask` may be used until the io_context has stopped.
  HttpServer(asio::io_context& io_context, std::vector<ListeningSocket> sockets, AskStatus ask,
             std::chrono::milliseconds request_deadline = std::chrono::seconds(10));
  ~HttpServer();
  HttpServer(const HttpServer&) = delete;
  HttpServer& operator=(const HttpServer&) = delete;

  std::vector<std::string> names() const;

 private:
  class Session;

  void accept(engine::FileDescriptor client, bool of_this_machine);

  asio::io_context& io_context_;
  const AskStatus ask_;
  const std::chrono::milliseconds request_deadline_;
  std::vector<std::unique_ptr<Listener>> listeners_;
  // Oldest first; those that have ended are taken out when another one comes.
  std::vector<std::weak_ptr<Session>> sessions_;
};

}  // namespace server
