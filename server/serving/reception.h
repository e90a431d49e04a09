// The clients of a worker outside the transmission phase: those that negotiate, and those whose
// connection has ended and that linger until the last replies have arrived. Each has a deadline.
// Belongs to a worker and is used on its thread.
#pragma once

#include <chrono>
#include <exception>
#include <functional>
#include <memory>
#include <string_view>
#include <vector>

#include "server/base/asio.h"
#include "server/base/metrics.h"
#include "server/net/tls_credentials.h"
#include "server/net/transport.h"
#include "server/serving/connection_host.h"
#include "server/serving/export_queues.h"
#include "server/serving/handshake.h"

namespace server {

class Reception {
 public:
  struct Events {
    // A client has chosen an export, which accepts it.
    std::function<void(std::unique_ptr<Transport>, Handshake)> negotiated;
    // A client is gone for good.
    std::function<void()> gone;
  };

  // `host`, `exports` and `metrics` outlive it. `tls`: nullptr where there is none.
  Reception(ConnectionHost& host, const ExportQueues& exports,
            std::shared_ptr<const TlsContext> tls, WorkerMetrics& metrics, Events events);
  Reception(const Reception&) = delete;
  Reception& operator=(const Reception&) = delete;

  // Negotiates with a new client.
  void accept(std::unique_ptr<Transport> transport);
  // Accepts a client that has negotiated.
  void accept(std::unique_ptr<Transport> transport, ClientState state);
  // Closes the transport of a connection that has ended, when its client has read all or has had
  // its time.
  void linger(std::unique_ptr<Transport> transport);
  // Closes all, and accepts no client from now on.
  void drain();

 private:
  struct Client {
    Client(std::unique_ptr<Transport> stream, Timer timer)
        : transport(std::move(stream)), deadline(std::move(timer)) {}
    std::unique_ptr<Transport> transport;
    Timer deadline;
  };

  std::shared_ptr<Client> add(std::unique_ptr<Transport> transport, std::chrono::seconds deadline);
  void remove(Client& client);
  void close_one_beyond_bound();
  static std::string_view host_of(const Client& client);
  bool accepts(const Handshake& handshake) const;
  std::function<void(std::exception_ptr)> gone_on_failure(std::shared_ptr<Client> client);
  Awaitable<void> negotiate(std::shared_ptr<Client> client);
  Awaitable<void> linger_until_closed(std::shared_ptr<Client> client);

  ConnectionHost& host_;
  const ExportQueues& exports_;
  const std::shared_ptr<const TlsContext> tls_;
  WorkerMetrics& metrics_;
  const Events events_;
  std::vector<std::shared_ptr<Client>> clients_;  // oldest first
  bool draining_ = false;
};

}  // namespace server
