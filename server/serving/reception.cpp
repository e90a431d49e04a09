#include "server/serving/reception.h"

#include <algorithm>
#include <map>
#include <utility>

#include "server/base/log.h"

namespace server {

Reception::Reception(ConnectionHost& host, const ExportQueues& exports,
                     std::shared_ptr<const TlsContext> tls, WorkerMetrics& metrics, Events events)
    : host_(host),
      exports_(exports),
      tls_(std::move(tls)),
      metrics_(metrics),
      events_(std::move(events)) {}

void Reception::accept(std::unique_ptr<Transport> transport) {
  if (draining_) return events_.gone();
  metrics_.connections_served.add(1);
  log::debug({.client = transport->peer()}, "{}: connected", transport->peer());
  auto client = add(std::move(transport), host_.bounds().handshake_deadline);
  close_one_beyond_bound();
  asio::co_spawn(host_.io_context(), negotiate(client), gone_on_failure(client));
}

void Reception::accept(std::unique_ptr<Transport> transport, ClientState state) {
  if (draining_) return events_.gone();
  metrics_.connections_served.add(1);
  auto handshake = resume_handshake(std::move(state), *exports_.table());
  if (handshake && accepts(*handshake))
    return events_.negotiated(std::move(transport), std::move(*handshake));
  log::connection<log::Level::warn>({.client = transport->peer()},
                                    "{}: closed: what it has negotiated is not offered to it",
                                    transport->peer());
  events_.gone();
}

void Reception::linger(std::unique_ptr<Transport> transport) {
  auto client = add(std::move(transport), host_.bounds().linger_deadline);
  asio::co_spawn(host_.io_context(), linger_until_closed(client), gone_on_failure(client));
}

void Reception::drain() {
  draining_ = true;
  for (const auto& client : clients_) client->transport->close();
}

std::shared_ptr<Reception::Client> Reception::add(std::unique_ptr<Transport> transport,
                                                  std::chrono::seconds deadline) {
  auto client = std::make_shared<Client>(std::move(transport), Timer(host_.io_context(), deadline));
  clients_.push_back(client);
  client->deadline.async_wait([client](const boost::system::error_code& cancelled) {
    if (cancelled || !client->transport) return;
    const auto& peer = client->transport->peer();
    log::connection({.client = peer}, "{}: closed: its time is up", peer);
    client->transport->close();
  });
  return client;
}

void Reception::remove(Client& client) {
  client.deadline.cancel();
  std::erase_if(clients_, [&](const auto& entry) { return entry.get() == &client; });
}

void Reception::close_one_beyond_bound() {
  if (clients_.size() <= host_.bounds().handshakes_max_per_worker) return;
  // Slow or silent clients must not keep others out: of the host that has the most of them, the one
  // that has had the most time goes.
  auto counts = std::map<std::string_view, std::size_t>{};
  for (const auto& client : clients_) ++counts[host_of(*client)];
  const auto crowd =
      std::ranges::max_element(counts, {}, [](const auto& entry) { return entry.second; });
  const auto place =
      std::ranges::find(clients_, crowd->first, [](const auto& entry) { return host_of(*entry); });
  const auto client = *place;
  clients_.erase(place);  // now: the next one may come before this one has gone
  log::connection<log::Level::warn>(
      {.client = client->transport->peer()},
      "{}: closed: {} clients are connected that have not chosen an export",
      client->transport->peer(), clients_.size());
  client->transport->close();
}

std::string_view Reception::host_of(const Client& client) {
  return client.transport->client().host;
}

bool Reception::accepts(const Handshake& handshake) const {
  return !draining_ &&
         exports_.accepts(*handshake.target, handshake.state.negotiated.export_description.size);
}

std::function<void(std::exception_ptr)> Reception::gone_on_failure(std::shared_ptr<Client> client) {
  return [this, client = std::move(client)](const std::exception_ptr& failure) {
    if (!failure) return;
    // Memory is missing, as a rule: this client is lost, but not its place, which others need.
    try {
      std::rethrow_exception(failure);
    } catch (const std::exception& exception) {
      log::error({}, "a client is closed: {}", exception.what());
    }
    remove(*client);
    client->transport.reset();
    events_.gone();
  };
}

Awaitable<void> Reception::negotiate(std::shared_ptr<Client> client) {
  auto handshake =
      co_await server::negotiate(client->transport, exports_.table(), host_.bounds(), tls_);
  remove(*client);
  // The export may have been retired or become smaller meanwhile.
  if (handshake && accepts(*handshake)) {
    events_.negotiated(std::move(client->transport), std::move(*handshake));
    co_return;
  }
  metrics_.handshakes_failed.add(1);
  log::debug({.client = client->transport->peer()}, "{}: closed", client->transport->peer());
  client->transport.reset();
  events_.gone();
}

Awaitable<void> Reception::linger_until_closed(std::shared_ptr<Client> client) {
  co_await server::linger(*client->transport);
  remove(*client);
  client->transport.reset();
  events_.gone();
}

}  // namespace server
