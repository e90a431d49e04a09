// The sockets that a server listens on: those that it was passed, and those of the addresses of its
// configuration, which may change. A change opens what is new, which may fail, before it closes
// what is no longer wanted. Used on the accepting thread.
#pragma once

#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "server/base/asio.h"
#include "server/net/listen_address.h"
#include "server/net/listener.h"

namespace server {

class Listeners {
 public:
  // An open socket, and the address that the configuration gives for it; empty: it was passed.
  struct Opened {
    std::string address;
    ListeningSocket socket;
  };

  // `default_address` is listened on where there is no other. `accepted` as Listener has it.
  Listeners(asio::io_context& io_context, std::string default_address, Listener::Accepted accepted)
      : io_context_(io_context),
        default_address_(std::move(default_address)),
        accepted_(std::move(accepted)) {}
  Listeners(const Listeners&) = delete;
  Listeners& operator=(const Listeners&) = delete;

  // Takes the sockets that were passed to the process and opens the others, at least one in all;
  // start() listens on them. Throws UserError or std::runtime_error with a message for people.
  void open(const std::vector<std::string>& addresses);
  void start();

  // Opens what is not listened on yet. Throws like open(), and changes nothing.
  std::vector<Opened> prepare(const std::vector<std::string>& addresses) const;
  // Listens on these addresses, with what prepare() has opened for them, on the passed sockets, and
  // on nothing else.
  void commit(const std::vector<std::string>& addresses, std::vector<Opened> opened);

  void close() noexcept { entries_.clear(); }
  bool empty() const noexcept { return entries_.empty(); }
  std::vector<std::string> names() const;  // as ListeningSocket::name()

 private:
  struct Entry {
    std::string address;  // as in Opened
    std::unique_ptr<Listener> listener;
  };

  std::vector<std::string> wanted(const std::vector<std::string>& addresses) const;
  void listen(std::vector<Opened>&& opened);

  asio::io_context& io_context_;
  const std::string default_address_;
  const Listener::Accepted accepted_;
  std::vector<Opened> opened_;  // until start()
  std::vector<Entry> entries_;
};

}  // namespace server
