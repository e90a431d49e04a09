#include "server/live/live_exports.h"

#include <fmt/format.h>

#include <algorithm>
#include <cstring>
#include <utility>

#include "server/base/blocking_task.h"
#include "server/base/log.h"
#include "server/base/user_error.h"
#include "server/export/open_export.h"

namespace server {
namespace {

Awaitable<void> perform(std::function<void()> step) {
  step();
  co_return;
}

bool sync(const Export& target) {
  if (target.device()->geometry().read_only) return true;
  const auto result = target.device()->sync();
  if (result == 0) return true;
  log::error("export \"{}\": the last sync failed: {}; data that was acknowledged may be lost",
             target.name(), std::strerror(-result));
  return false;
}

}  // namespace

LiveExports::LiveExports(const Bounds& bounds, asio::io_context& io_context,
                         engine::BlockingPool& pool, Workers& workers)
    : bounds_(bounds),
      io_context_(io_context),
      pool_(pool),
      workers_(workers),
      change_over_(io_context, Timer::time_point::max()) {}

void LiveExports::open(const std::vector<ExportConfig>& configs) {
  auto exports = std::vector<std::shared_ptr<Export>>{};
  for (const auto& entry : configs)
    exports.push_back(std::make_shared<Export>(entry, open_export(entry, pool_), bounds_));
  table_ = std::make_shared<const ExportTable>(std::move(exports));
}

void LiveExports::connect(Worker& worker) {
  for (const auto& target : table_->all()) worker.add_export(target);
  worker.on_retired([&pool = pool_](LooseQueue loose) {
    auto shared = std::make_shared<LooseQueue>(std::move(loose));
    run_detached(pool, [shared = std::move(shared)] {
      shared->queue.reset();
      sync(*shared->target);
    });
  });
}

Awaitable<void> LiveExports::wait_for_turn() {
  while (changing_) co_await change_over_.async_wait(as_result);
  if (ending_) throw UserError(std::string(server_is_ending));
  changing_ = true;
}

Awaitable<ChangedNames> LiveExports::change(Edit edit, Departure departure) {
  co_await wait_for_turn();
  const auto turn = Turn(*this);
  auto configs = Configs{};
  for (const auto& entry : table_->all()) configs.push_back(entry->config());
  configs = edit(std::move(configs));
  const auto changes = std::make_shared<ExportChanges>();
  const auto planning = std::function<void()>(
      [changes, configs = std::move(configs), table = table_, gone = gone(), &bounds = bounds_,
       &pool = pool_] { *changes = plan_changes(*table, gone, configs, bounds, pool); });
  co_await run_blocking(io_context_, pool_, planning);
  co_await check_displaced(*changes, departure);
  for (const auto* const exports : {&changes->leaving, &changes->arriving})
    for (const auto& entry : *exports)
      if (is_paused(*entry))
        throw UserError(
            fmt::format("export \"{0}\" is paused: loopnbd ctl resume {0}", entry->name()));
  co_await publish(*changes, departure);
  co_return changes->names;
}

// Clients of one file that is served in two ways would overwrite each other's blocks.
Awaitable<void> LiveExports::check_displaced(const ExportChanges& changes, Departure departure) {
  if (departure != Departure::keep) co_return;
  for (const auto& entry : changes.displaced) {
    const auto count = std::make_shared<std::size_t>(0);
    const auto counting = Step([count, entry](const Worker& worker, std::size_t) {
      *count += worker.connection_count(*entry);
    });
    co_await on_each_worker(counting);
    if (*count > 0)
      throw UserError(fmt::format(
          "export \"{}\": {} client{} still on it, and its file cannot be served in the old and "
          "the new way at once: drain it (loopnbd ctl reload --drain), or let them detach first",
          entry->name(), *count, *count == 1 ? " is" : "s are"));
  }
}

Awaitable<void> LiveExports::publish(ExportChanges& changes, Departure departure) {
  // Nobody may come to what leaves once somebody can have come to what takes its place: hence two
  // steps.
  const auto retiring = Step([&changes, departure](Worker& worker, std::size_t) {
    worker.retire(changes.leaving, departure);
    worker.retire(changes.displaced, std::max(departure, Departure::drain));
  });
  co_await on_each_worker(retiring);
  const auto adopting = Step([&changes](Worker& worker, std::size_t index) {
    worker.adopt(changes.table, std::move(changes.queues.at(index)));
  });
  co_await on_each_worker(adopting);
  for (const auto& entry : changes.arriving)
    co_await apply_limits(entry, entry->config().limits, entry->config().client_limits);
  table_ = changes.table;
  std::erase_if(gone_, [](const auto& entry) { return entry.expired(); });
  gone_.insert(gone_.end(), changes.leaving.begin(), changes.leaving.end());
}

Awaitable<void> LiveExports::on_each_worker(const Step& step) {
  for (auto index = std::size_t{0}; index < workers_.size(); ++index) {
    auto& worker = *workers_[index];
    auto bound = std::function<void()>([&step, &worker, index] { step(worker, index); });
    auto performing = perform(std::move(bound));
    co_await asio::co_spawn(worker.io_context(), std::move(performing), awaiting);
  }
}

std::vector<std::shared_ptr<Export>> LiveExports::gone() const {
  auto alive = std::vector<std::shared_ptr<Export>>{};
  for (const auto& entry : gone_)
    if (auto target = entry.lock()) alive.push_back(std::move(target));
  return alive;
}

bool LiveExports::sync_all() {
  auto synced = true;
  for (const auto& target : table_->all()) synced = sync(*target) && synced;
  for (const auto& target : gone()) synced = sync(*target) && synced;
  return synced;
}

}  // namespace server
