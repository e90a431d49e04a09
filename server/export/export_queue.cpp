#include "server/export/export_queue.h"

#include <utility>

namespace server {

LooseQueue make_queue(std::shared_ptr<Export> target, std::size_t depth_max) {
  auto device = target->device();
  auto queue = device->make_queue(depth_max);
  return {std::move(target), std::move(device), std::move(queue)};
}

ExportQueue::ExportQueue(asio::io_context& io_context, LooseQueue loose, std::size_t worker)
    : target(std::move(loose.target)),
      device(std::move(loose.device)),
      queue(std::move(loose.queue)),
      metrics(target->metrics()[worker]),
      wakeup(io_context, queue->wakeup_fd()) {}

ExportQueue::~ExportQueue() { wakeup.release(); }

}  // namespace server
