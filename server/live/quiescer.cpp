#include "server/live/quiescer.h"

#include <fmt/format.h>

#include <cerrno>
#include <cstring>
#include <utility>

#include "server/base/blocking_task.h"
#include "server/base/user_error.h"

namespace server {

Awaitable<void> Quiescer::quiesce(ExportGroup group) {
  const auto holding = LiveServer::Step([&group](Worker& worker, std::size_t) {
    for (const auto& member : group) worker.hold(*member);
  });
  co_await server_.on_each_worker(holding);
  const auto at_rest = co_await wait_for_rest(group);
  auto error = 0;
  if (at_rest) error = co_await sync(group.front()->device());
  if (at_rest && error == 0) co_return;
  const auto name = group.back()->name();
  co_await resume(std::move(group));
  throw UserError(
      at_rest ? fmt::format("export \"{}\" stays as it is: its sync failed: {}", name,
                            std::strerror(-error))
              : fmt::format("export \"{}\" stays as it is: its device has not finished what it was "
                            "given within {} s",
                            name, patience_.count()));
}

Awaitable<bool> Quiescer::wait_for_rest(const ExportGroup& group) {
  const auto deadline = Clock::now() + patience_;
  for (const auto& worker : server_.workers) {
    auto waiting = worker->wait_for_rest(group, deadline);
    const auto at_rest =
        co_await asio::co_spawn(worker->io_context(), std::move(waiting), awaiting);
    if (!at_rest) co_return false;
  }
  co_return true;
}

// The error of it, or 0; -ETIMEDOUT: it has not ended. Other exports' changes wait for this one.
Awaitable<int> Quiescer::sync(std::shared_ptr<engine::BlockDevice> device) {
  if (device->geometry().read_only) co_return 0;
  const auto error = std::make_shared<int>(0);
  const auto syncing = std::function<void()>([error, device] { *error = device->sync(); });
  const auto ended =
      co_await run_blocking_for(server_.io_context, server_.pool, syncing, patience_);
  co_return ended ? *error : -ETIMEDOUT;
}

Awaitable<void> Quiescer::resume(ExportGroup group) {
  const auto resuming = LiveServer::Step([&group](Worker& worker, std::size_t) {
    for (const auto& member : group) worker.resume(*member);
  });
  co_await server_.on_each_worker(resuming);
}

void Quiescer::resume_detached(const ExportGroup& group) {
  for (const auto& worker : server_.workers)
    asio::post(worker->io_context(), [&worker, group] {
      for (const auto& member : group) worker->resume(*member);
    });
}

}  // namespace server
