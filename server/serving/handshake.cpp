#include "server/serving/handshake.h"

#include <algorithm>
#include <array>
#include <boost/asio/post.hpp>
#include <cerrno>
#include <span>
#include <utility>

#include "proto/negotiation.h"
#include "server/base/log.h"
#include "server/net/tls_transport.h"
#include "server/serving/client_directory.h"

namespace server {
namespace {

// Negotiated at a time. The answer to a LIST can be thousands of times as long as the question, so
// that not many of them may be answered before the client reads.
constexpr std::size_t step_max = 64;  // bytes

// Bytes that one client may send and be sent before other clients, and deadlines, have their turn:
// a socket that is never empty would keep the thread otherwise.
constexpr std::size_t bytes_max_per_turn = 64U << 10;

// The bytes that one client has moved in the turn at hand.
class Turn {
 public:
  void spend(std::size_t bytes) noexcept { bytes_ += bytes; }
  // Others have had their turn while this client was waited for.
  void waited() noexcept { bytes_ = 0; }

  Awaitable<void> give_others_theirs() {
    if (bytes_ < bytes_max_per_turn) co_return;
    bytes_ = 0;
    co_await asio::post(awaiting);
  }

 private:
  std::size_t bytes_ = 0;
};

// False: the client is gone or the transport was closed.
Awaitable<bool> send_all(Transport& transport, std::span<const std::byte> bytes, Turn& turn) {
  while (!bytes.empty()) {
    const auto vector =
        iovec{.iov_base = const_cast<std::byte*>(bytes.data()),  // writev() only reads
              .iov_len = bytes.size()};
    const auto sent = transport.write_some(std::span(&vector, 1));
    if (sent > 0) {
      bytes = bytes.subspan(static_cast<std::size_t>(sent));
      turn.spend(static_cast<std::size_t>(sent));
      co_await turn.give_others_theirs();
    } else if (sent == -EAGAIN) {
      const auto [failure] = co_await transport.wait_writable(as_result);
      if (failure) co_return false;
      turn.waited();
    } else {
      co_return false;
    }
  }
  co_return true;
}

// Bytes received; 0: the client is gone or the transport was closed.
Awaitable<std::size_t> receive_some(Transport& transport, std::span<std::byte> room, Turn& turn) {
  for (;;) {
    co_await turn.give_others_theirs();
    const auto vector = iovec{.iov_base = room.data(), .iov_len = room.size()};
    const auto received = transport.read_some(std::span(&vector, 1));
    if (received > 0) {
      turn.spend(static_cast<std::size_t>(received));
      co_return static_cast<std::size_t>(received);
    }
    if (received != -EAGAIN) co_return 0;
    const auto [failure] = co_await transport.wait_readable(as_result);
    if (failure) co_return 0;
    turn.waited();
  }
}

// Puts TLS between the transport and its client. False: the client is gone, or could not be agreed
// with; what it still sends is drained then, so that it gets to read why.
Awaitable<bool> start_tls(std::unique_ptr<Transport>& transport,
                          std::shared_ptr<const TlsCredentials> credentials) {
  auto encrypted = std::make_unique<TlsTransport>(transport->take_stream(), std::move(credentials));
  auto& session = *encrypted;
  transport = std::move(encrypted);
  const auto agreed = co_await session.shake_hands();
  if (agreed) co_return true;
  if (!session.is_open()) co_return false;
  transport = std::make_unique<SocketTransport>(transport->take_stream());
  co_await linger(*transport);
  co_return false;
}

bool within_limits(const proto::Negotiation& negotiation, const Transport& transport,
                   const Bounds& bounds) {
  if (negotiation.option_count() <= bounds.options_max) return true;
  log::connection<log::Level::warn>(
      {.client = transport.peer()},
      "{}: closed after more than {} options without choosing an export", transport.peer(),
      bounds.options_max);
  return false;
}

}  // namespace

std::optional<Handshake> resume_handshake(ClientState state, const ExportTable& exports) {
  const auto& description = state.negotiated.export_description;
  auto handshake = Handshake{};
  handshake.target = exports.find(description.name);
  if (handshake.target == nullptr) return std::nullopt;
  if ((description.transmission_flags & proto::transmission_flag::read_only) == 0) {
    handshake.lease = handshake.target->take_writer(state.client.host);
    if (!handshake.lease) return std::nullopt;
  }
  handshake.state = std::move(state);
  return handshake;
}

Awaitable<std::optional<Handshake>> negotiate(std::unique_ptr<Transport>& transport,
                                              const std::shared_ptr<const ExportTable>& exports,
                                              const Bounds& bounds,
                                              std::shared_ptr<const TlsContext> tls) {
  using Next = proto::Negotiation::Next;
  auto directory = ClientDirectory(exports, transport->client());
  auto negotiation = proto::Negotiation(directory, proto::TlsMode::off);
  auto output = proto::Negotiation::greeting();
  auto credentials = std::shared_ptr<const TlsCredentials>();
  auto turn = Turn{};
  auto input = std::array<std::byte, 4096>{};
  auto going_on = co_await send_all(*transport, output, turn);
  while (going_on) {
    const auto received = co_await receive_some(*transport, input, turn);
    if (received == 0) break;
    auto rest = std::span<const std::byte>(input).first(received);
    auto progress = proto::Negotiation::Progress{};
    while (going_on && !rest.empty() && progress.next == Next::receive) {
      output.clear();
      if (tls) credentials = tls->credentials();
      negotiation.set_tls_mode(credentials ? credentials->mode() : proto::TlsMode::off);
      const auto step = std::max(step_max, negotiation.skippable());
      progress = negotiation.receive(rest.first(std::min(rest.size(), step)), output);
      rest = rest.subspan(progress.consumed);
      if (progress.next == Next::start_tls && !rest.empty()) {
        log::connection<log::Level::warn>(
            {.client = transport->peer()},
            "{}: closed: it sent more behind STARTTLS without waiting for the answer, which "
            "could be somebody else's words",
            transport->peer());
        co_return std::nullopt;
      }
      going_on = co_await send_all(*transport, output, turn);
    }
    if (!going_on) break;
    if (progress.next == Next::transmit) {
      auto handshake = Handshake{};
      auto unread = std::vector<std::byte>(rest.begin(), rest.end());
      handshake.state =
          begin_transmission(transport->client(), negotiation.result(), std::move(unread));
      handshake.target = directory.chosen();
      handshake.lease = directory.take_lease();
      co_return std::move(handshake);
    }
    if (progress.next == Next::close) {
      const auto& peer = transport->peer();
      log::connection({.client = peer}, "{}: handshake ended: {}", peer, negotiation.reason());
      co_await linger(*transport);
      break;
    }
    if (progress.next == Next::start_tls) {
      going_on = co_await start_tls(transport, credentials);
      directory.set_client(transport->client());
      negotiation.tls_started();
    }
    going_on = going_on && within_limits(negotiation, *transport, bounds);
  }
  co_return std::nullopt;
}

Awaitable<void> linger(Transport& transport) {
  auto ignored = std::array<std::byte, 4096>{};
  transport.end_output();
  auto turn = Turn{};
  auto received = std::size_t{1};
  while (received > 0) received = co_await receive_some(transport, ignored, turn);
}

}  // namespace server
