#include "server/serving/client_state.h"

#include <atomic>
#include <utility>

namespace server {
namespace {

std::uint64_t next_arrival() noexcept {
  static std::atomic<std::uint64_t> count{0};
  return count.fetch_add(1, std::memory_order_relaxed);
}

}  // namespace

ClientState begin_transmission(ClientIdentity client, proto::Negotiated negotiated,
                               std::vector<std::byte> unread) {
  auto state = ClientState{};
  state.client = std::move(client);
  state.negotiated = std::move(negotiated);
  state.arrival = next_arrival();
  state.since = Clock::now();
  state.unread = std::move(unread);
  return state;
}

}  // namespace server
