// The exports of a worker: the table that its clients choose from, and a queue into the device of
// each, of those that have left the table and still have connections, too. Belongs to the worker
// and is used on its thread.
#pragma once

#include <cstddef>
#include <functional>
#include <map>
#include <memory>
#include <vector>

#include "server/base/asio.h"
#include "server/base/event.h"
#include "server/export/export.h"
#include "server/export/export_queue.h"
#include "server/serving/connection_host.h"

namespace server {

class ExportQueues {
 public:
  // `host` outlives it. `worker`: its index among the workers.
  ExportQueues(ConnectionHost& host, std::size_t worker, std::shared_ptr<const ExportTable> table);
  ExportQueues(const ExportQueues&) = delete;
  ExportQueues& operator=(const ExportQueues&) = delete;

  // Takes the queue of an export without connections that has left the table.
  void on_released(std::function<void(LooseQueue)> released) { released_ = std::move(released); }

  // The table of the moment; the reference stays good.
  const std::shared_ptr<const ExportTable>& table() const noexcept { return table_; }
  void add(LooseQueue loose);
  ExportQueue& at(const Export& target) const { return *queues_.at(&target); }
  // nullptr: there is none.
  ExportQueue* find(const Export& target) const noexcept;
  // Whether a connection that was told of `size` bytes may begin.
  bool accepts(const Export& target, std::uint64_t size) const noexcept;
  template <typename Function>
  void for_each(Function function) const {
    for (const auto& [target, queue] : queues_) function(*queue);
  }

  // The last connection of the queue has gone. Unless another comes soon, the queue gives back what
  // the kernel holds for it.
  void suspend_soon(ExportQueue& queue);

  // A change of the table. The queues of retired exports are released with their last connections,
  // once there is a table without them. `close`: no connection may begin until then, either.
  void retire(ExportQueue& queue, bool close);
  void adopt(std::shared_ptr<const ExportTable> table, std::vector<LooseQueue> added);
  // Releases what is due. At the end of a turn.
  void release_retired();

  // The parts of a turn.
  void submit(ExportQueue& queue, engine::Io& io) noexcept;
  // One submission, and the completions that are there. False: there was nothing to do.
  bool run() noexcept;
  // Wakes the thread for the completions that are missing.
  void wait_for_completions();

  // An exchange of a device: hold its queue, wait until it is at rest, exchange, resume.
  void hold(const Export& target);
  // Waits until nothing of these exports, all of them held, is in flight. False: something still is
  // at the deadline.
  Awaitable<bool> wait_for_rest(std::vector<std::shared_ptr<Export>> group,
                                Clock::time_point deadline);
  // `loose` gets the old device and queue. The queue that has the new ones; nullptr: its export has
  // left before it was held.
  ExportQueue* exchange(LooseQueue& loose);
  // Submits what was held back.
  void resume(ExportQueue& queue);

 private:
  bool at_rest(const std::vector<std::shared_ptr<Export>>& group);
  void flush(ExportQueue& queue) noexcept;
  bool release(ExportQueue& queue);
  void start_suspending();

  ConnectionHost& host_;
  const std::size_t worker_;
  std::shared_ptr<const ExportTable> table_;
  Event rest_;  // a held queue may have come to rest; outlives the queues
  std::map<const Export*, std::unique_ptr<ExportQueue>> queues_;
  std::vector<ExportQueue*> active_;
  std::vector<ExportQueue*> retired_;
  struct Unused {
    ExportQueue* queue;
    Clock::time_point since;
  };
  std::vector<Unused> unused_;  // to be suspended; the oldest first, each once
  Timer suspend_timer_;         // for the first of them
  std::function<void(LooseQueue)> released_ = [](const LooseQueue&) {};
};

}  // namespace server
