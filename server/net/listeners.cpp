#include "server/net/listeners.h"

#include <algorithm>
#include <string_view>

#include "server/base/log.h"
#include "server/base/user_error.h"

namespace server {

void Listeners::open(const std::vector<std::string>& addresses) {
  for (auto& socket : take_passed_sockets()) opened_.push_back({"", std::move(socket)});
  for (const auto& address : wanted(addresses))
    for (auto& socket : open_listening_sockets(address))
      opened_.push_back({address, std::move(socket)});
  if (opened_.empty())
    throw UserError(
        "there is no address left to listen on: this machine has none of those that are "
        "configured");
}

void Listeners::start() { listen(std::exchange(opened_, {})); }

std::vector<Listeners::Opened> Listeners::prepare(const std::vector<std::string>& addresses) const {
  auto opened = std::vector<Opened>{};
  for (const auto& address : wanted(addresses)) {
    if (std::ranges::find(entries_, address, &Entry::address) != entries_.end()) continue;
    for (auto& socket : open_listening_sockets(address))
      opened.push_back({address, std::move(socket)});
  }
  return opened;
}

void Listeners::commit(const std::vector<std::string>& addresses, std::vector<Opened> opened) {
  const auto kept = wanted(addresses);
  std::erase_if(entries_, [&](const Entry& entry) {
    const auto unwanted =
        !entry.address.empty() && std::ranges::find(kept, entry.address) == kept.end();
    if (unwanted) log::info("no longer listening on {}", entry.listener->name());
    return unwanted;
  });
  for (const auto& entry : opened) log::info("listening on {}", entry.socket.name());
  listen(std::move(opened));
}

std::vector<std::string> Listeners::names() const {
  auto names = std::vector<std::string>{};
  for (const auto& entry : entries_) names.push_back(entry.listener->name());
  return names;
}

std::vector<std::string> Listeners::wanted(const std::vector<std::string>& addresses) const {
  auto passed = std::vector<std::string_view>{};
  for (const auto& [address, socket] : opened_)
    if (address.empty()) passed.push_back(socket.name());
  for (const auto& [address, listener] : entries_)
    if (address.empty()) passed.push_back(listener->name());
  if (addresses.empty() && passed.empty()) return {default_address_};
  // An address that the service manager listens on, too, is served by the socket that it has
  // passed.
  auto others = addresses;
  std::erase_if(others, [&](const auto& address) {
    return std::ranges::find(passed, address) != passed.end();
  });
  return others;
}

void Listeners::listen(std::vector<Opened>&& opened) {
  for (auto& [address, socket] : opened)
    entries_.push_back({std::move(address),
                        std::make_unique<Listener>(io_context_, std::move(socket), accepted_)});
}

}  // namespace server
