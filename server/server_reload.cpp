// The part of Server that takes over a changed configuration.
#include <algorithm>
#include <csignal>
#include <exception>
#include <utility>

#include "server/base/blocking_task.h"
#include "server/base/log.h"
#include "server/base/text.h"
#include "server/base/user_error.h"
#include "server/config/keys.h"
#include "server/server.h"

namespace server {

void Server::reload_on_signal() {
  reload_signal_.async_wait([this](const boost::system::error_code& cancelled, int) {
    if (cancelled) return;
    reload_on_signal();
    asio::co_spawn(io_context_, reload_and_report(), asio::detached);
  });
}

Awaitable<void> Server::reload_and_report() {
  try {
    co_await reload(Departure::keep);
  } catch (const std::exception& failure) {
    log::error("the configuration stays as it was: {}", failure.what());
  }
}

Awaitable<Server::Reloaded> Server::reload(Departure departure) {
  if (!reread_) throw UserError("there is no file to read again: start it with --config");
  if (stopping_) throw UserError("the server is ending");
  if (reloading_) throw UserError("another reload is under way");
  reloading_ = true;
  notify_.reloading();
  const auto over = std::unique_ptr<Server, void (*)(Server*)>(this, [](Server* server) {
    server->reloading_ = false;
    if (!server->stopping_) server->notify_.ready();
  });
  const auto config = std::make_shared<Config>();
  const auto reading = std::function<void()>([config, reread = reread_] {
    *config = reread();
    static_cast<void>(TlsContext(config->tls));  // can it be used?
  });
  co_await run_blocking(io_context_, blocking_pool_, reading);
  auto opened = open_new_sockets(*config);
  auto reloaded = Reloaded{};
  reloaded.need_restart = keys_for_restart(config_, *config);
  auto edit = LiveExports::Edit([config](const LiveExports::Configs&) { return config->exports; });
  reloaded.exports = co_await exports_.change(std::move(edit), departure);
  tls_->reload(config->tls);
  if (!stopping_) replace_listeners(*config, std::move(opened));
  if (config->log_level != config_.log_level) log::set_level(config->log_level);
  config_.listen = config->listen;
  config_.log_level = config->log_level;
  config_.tls = config->tls;
  log::info("the configuration was read again; exports added: {}; changed: {}; removed: {}",
            joined(reloaded.exports.added), joined(reloaded.exports.changed),
            joined(reloaded.exports.removed));
  if (!reloaded.need_restart.empty())
    log::warn("not in use before a restart: the new values of {}", joined(reloaded.need_restart));
  co_return reloaded;
}

std::vector<std::string> Server::wanted_addresses(const Config& config) const {
  auto passed = std::vector<std::string_view>{};
  for (const auto& [address, socket] : sockets_)
    if (address.empty()) passed.push_back(socket.name());
  for (const auto& [address, listener] : listeners_)
    if (address.empty()) passed.push_back(listener->name());
  if (config.listen.empty() && passed.empty()) return {std::string(default_listen_address)};
  auto addresses = config.listen;
  // An address that the service manager listens on, too, is served by the socket that it has
  // passed.
  std::erase_if(addresses, [&](const auto& address) {
    return std::ranges::find(passed, address) != passed.end();
  });
  return addresses;
}

std::vector<Server::OpenSocket> Server::open_new_sockets(const Config& config) const {
  auto opened = std::vector<OpenSocket>{};
  for (const auto& address : wanted_addresses(config)) {
    if (std::ranges::find(listeners_, address, &Listening::address) != listeners_.end()) continue;
    for (auto& socket : open_listening_sockets(address))
      opened.push_back({address, std::move(socket)});
  }
  return opened;
}

void Server::replace_listeners(const Config& config, std::vector<OpenSocket> opened) {
  const auto wanted = wanted_addresses(config);
  std::erase_if(listeners_, [&](const Listening& entry) {
    const auto unwanted =
        !entry.address.empty() && std::ranges::find(wanted, entry.address) == wanted.end();
    if (unwanted) log::info("no longer listening on {}", entry.listener->name());
    return unwanted;
  });
  for (const auto& entry : opened) log::info("listening on {}", entry.socket.name());
  listen(std::move(opened));
}

void Server::listen(std::vector<OpenSocket>&& sockets) {
  for (auto& [address, socket] : sockets)
    listeners_.push_back(
        {std::move(address),
         std::make_unique<Listener>(io_context_, std::move(socket),
                                    [this](engine::FileDescriptor client, ClientIdentity identity) {
                                      serve(std::move(client), std::move(identity));
                                    })});
}

}  // namespace server
