#include "server/live/live_server.h"

#include <utility>

namespace server {
namespace {

Awaitable<void> perform(std::function<void()> step) {
  step();
  co_return;
}

}  // namespace

Awaitable<void> LiveServer::on_each_worker(const Step& step) const {
  for (auto index = std::size_t{0}; index < workers.size(); ++index) {
    auto& worker = *workers[index];
    auto bound = std::function<void()>([&step, &worker, index] { step(worker, index); });
    auto performing = perform(std::move(bound));
    co_await asio::co_spawn(worker.io_context(), std::move(performing), awaiting);
  }
}

}  // namespace server
