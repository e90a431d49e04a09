#include "server/live/device_exchange.h"

#include <fmt/format.h>

#include <algorithm>
#include <cstring>
#include <utility>
#include <vector>

#include "engine/check.h"
#include "engine/mutex.h"
#include "server/base/blocking_task.h"
#include "server/base/user_error.h"
#include "server/export/open_export.h"

namespace server {
namespace {

// The requests under way were laid out in memory for the old device.
void check_alignment(const std::string& path, const engine::BlockDevice& device,
                     const engine::BlockDevice& old) {
  const auto block_size = device.geometry().block_size;
  if (block_size > std::max(old.geometry().block_size, request_alignment))
    throw UserError(fmt::format(
        "{} wants blocks of {} bytes, for which the requests under way are not laid out", path,
        block_size));
}

}  // namespace

struct DeviceExchange::Replacement {
  void make_queues(const ExportGroup& group, const Bounds& bounds) {
    for (auto worker = 0U; worker < bounds.workers; ++worker) {
      auto& made = queues.emplace_back();
      for (const auto& member : group)
        made.push_back({member, device, device->make_queue(bounds.queue_depth)});
    }
  }

  std::shared_ptr<engine::BlockDevice> device;
  std::vector<std::vector<LooseQueue>> queues;  // for each worker, one for each of the group
  int claimed = 0;                              // or the -errno of it

  // True: it is being opened still, and what that has changed is undone at its end.
  bool abandon() {
    const engine::MutexLock lock(mutex);
    abandoned = true;
    return !ended;
  }

  engine::Mutex mutex;
  bool ended LOOPNBD_GUARDED_BY(mutex) = false;
  bool abandoned LOOPNBD_GUARDED_BY(mutex) = false;
};

struct DeviceExchange::Ending {
  ~Ending() {
    const engine::MutexLock lock(replacement.mutex);
    replacement.ended = true;
    if (replacement.abandoned) change.roll_back(old);
  }
  Replacement& replacement;
  DeviceChange& change;
  engine::BlockDevice& old;
};

DeviceExchange::DeviceExchange(const LiveServer& server, Quiescer& quiescer, ExportGroup group)
    : server_(server),
      quiescer_(quiescer),
      group_(std::move(group)),
      replacement_(std::make_shared<Replacement>()) {}

Awaitable<void> DeviceExchange::prepare(std::shared_ptr<DeviceChange> change, ExportConfig config) {
  const auto opening = std::function<void()>(
      [replacement = replacement_, group = group_, change = std::move(change),
       config = std::move(config), &bounds = server_.bounds, sync_errors = server_.sync_errors] {
        const auto old = group.front()->device();
        // Also when it throws, and when nobody waits for it any more.
        const auto end = Ending{*replacement, *change, *old};
        change->prepare(config, *old);
        auto context = engine::OpenContext{};
        context.predecessors = {old};
        context.sync_errors = sync_errors;
        auto device = open_export(config, std::move(context));
        change->check(*device, *old);
        check_alignment(config.path, *device, *old);
        replacement->device = std::move(device);
        replacement->make_queues(group, bounds);
      });
  co_await open_in_time(server_.io_context, server_.pool, opening);
  co_await quiescer_.quiesce(group_);
  const auto claiming = std::function<void()>(
      [replacement = replacement_] { replacement->claimed = replacement->device->claim(); });
  co_await run_blocking(server_.io_context, server_.pool, claiming);
  if (replacement_->claimed == 0) co_return;
  co_await quiescer_.resume(group_);
  throw UserError(fmt::format("export \"{}\" stays as it is: its file cannot be locked: {}",
                              group_.back()->name(), std::strerror(-replacement_->claimed)));
}

Awaitable<void> DeviceExchange::roll_back(std::shared_ptr<DeviceChange> change) {
  const auto undoing = std::function<void()>(
      [change = std::move(change), replacement = replacement_, old = group_.front()->device()] {
        if (!replacement->abandon()) change->roll_back(*old);
      });
  co_await run_blocking(server_.io_context, server_.pool, undoing);
}

Awaitable<void> DeviceExchange::commit() {
  auto& replacement = *replacement_;
  LOOPNBD_ASSERT(replacement.device != nullptr);
  const auto exchanging = LiveServer::Step([&replacement](Worker& worker, std::size_t index) {
    for (auto& queue : replacement.queues.at(index)) worker.exchange(queue);
  });
  co_await server_.on_each_worker(exchanging);
  replacement.device->commit();
  for (const auto& member : group_) member->set_device(replacement.device);
  co_await quiescer_.resume(group_);
  // The queues of the old device are in their places now; taking them down may block.
  run_detached(server_.pool, [replacement = replacement_] { replacement->queues.clear(); });
}

}  // namespace server
