#include "server/live/device_exchange.h"

#include <fmt/format.h>

#include <algorithm>
#include <utility>
#include <vector>

#include "engine/check.h"
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
};

DeviceExchange::DeviceExchange(const LiveServer& server, Quiescer& quiescer, ExportGroup group)
    : server_(server),
      quiescer_(quiescer),
      group_(std::move(group)),
      replacement_(std::make_shared<Replacement>()) {}

Awaitable<void> DeviceExchange::prepare(std::shared_ptr<DeviceChange> change, ExportConfig config) {
  const auto opening =
      std::function<void()>([replacement = replacement_, group = group_, change = std::move(change),
                             config = std::move(config), &bounds = server_.bounds] {
        const auto old = group.front()->device();
        change->prepare(config, *old);
        auto device = open_export(config, {old});
        change->check(*device, *old);
        check_alignment(config.path, *device, *old);
        replacement->device = std::move(device);
        replacement->make_queues(group, bounds);
      });
  co_await open_in_time(server_.io_context, server_.pool, opening);
  co_await quiescer_.quiesce(group_);
}

Awaitable<void> DeviceExchange::commit() {
  auto& replacement = *replacement_;
  LOOPNBD_ASSERT(replacement.device != nullptr);
  const auto exchanging = LiveServer::Step([&replacement](Worker& worker, std::size_t index) {
    for (auto& queue : replacement.queues.at(index)) worker.exchange(queue);
  });
  co_await server_.on_each_worker(exchanging);
  for (const auto& member : group_) member->set_device(replacement.device);
  co_await quiescer_.resume(group_);
  // The queues of the old device are in their places now; taking them down may block.
  const auto old = std::make_shared<decltype(replacement.queues)>(std::move(replacement.queues));
  run_detached(server_.pool, [old] { old->clear(); });
}

}  // namespace server
