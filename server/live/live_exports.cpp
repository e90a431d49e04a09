#include "server/live/live_exports.h"

#include <fmt/format.h>

#include <algorithm>
#include <atomic>
#include <cstring>
#include <exception>
#include <iterator>
#include <utility>

#include "server/base/blocking_task.h"
#include "server/base/log.h"
#include "server/base/user_error.h"
#include "server/export/open_export.h"
#include "server/live/device_exchange.h"
#include "server/serving/connection.h"

namespace server {
namespace {

// At the end: disks that hang hold up nobody before there are so many of them.
constexpr std::size_t syncs_at_once = 16;
// Exports that have left and whose disks hang hold up no change of the others.
constexpr std::size_t closing_threads = 8;

bool sync(const Export& target) {
  if (target.device()->geometry().read_only) return true;
  const auto result = target.device()->sync();
  if (result == 0) return true;
  log::error("export \"{}\": the last sync failed: {}; data that was acknowledged may be lost",
             target.name(), std::strerror(-result));
  return false;
}

void report_replaced(const Export& former) {
  constexpr auto format =
      "export \"{}\": {} is another file than before, and is served from now on; clients that are "
      "attached go on with the former one{}";
  if (former.device()->geometry().read_only)
    log::info(format, former.name(), former.path(), "");
  else
    log::warn(format, former.name(), former.path(),
              ", and what they write is not in the new one: let them detach and attach again");
}

}  // namespace

LiveExports::LiveExports(const Bounds& bounds, asio::io_context& io_context,
                         engine::BlockingPool& pool, Workers& workers)
    : server_{bounds, io_context, pool, workers},
      lock_(io_context),
      quiescer_(server_),
      pauses_(io_context, quiescer_, lock_),
      closing_pool_(closing_threads) {}

void LiveExports::open(const std::vector<ExportConfig>& configs) {
  auto context = engine::OpenContext{};
  context.sync_errors = server_.sync_errors;
  auto exports = std::vector<std::shared_ptr<Export>>{};
  for (const auto& entry : configs)
    exports.push_back(std::make_shared<Export>(entry, open_export(entry, context), server_.bounds));
  table_ = std::make_shared<const ExportTable>(std::move(exports));
}

void LiveExports::connect(Worker& worker) {
  for (const auto& target : table_->all()) worker.add_export(target);
  worker.on_released([&pool = closing_pool_](LooseQueue loose) {
    auto shared = std::make_shared<LooseQueue>(std::move(loose));
    run_detached(pool, [shared = std::move(shared)] {
      shared->queue.reset();
      sync(*shared->target);
    });
  });
}

Awaitable<ChangedNames> LiveExports::change(Edit edit, Terms terms) {
  co_await lock_.wait_for_turn();
  const auto guard = ChangeLock::Guard(lock_);
  const auto changes = co_await prepare(std::move(edit), terms);
  terms.before_commit();
  co_await commit(changes, terms.departure);
  co_return changes->names;
}

Awaitable<LiveExports::Changes> LiveExports::prepare(Edit edit, const Terms& terms) {
  auto configs = Configs{};
  for (const auto& entry : table_->all()) configs.push_back(entry->config());
  configs = edit(std::move(configs));
  auto changes = std::make_shared<ExportChanges>();
  auto plan_terms = PlanTerms{};
  plan_terms.reopen_replaced = terms.reopen_replaced;
  plan_terms.sync_errors = server_.sync_errors;
  const auto planning =
      std::function<void()>([changes, configs = std::move(configs), table = table_, gone = gone(),
                             plan_terms, &bounds = server_.bounds] {
        *changes = plan_changes(*table, gone, configs, bounds, plan_terms);
      });
  co_await open_in_time(server_.io_context, server_.pool, planning);
  co_await check_displaced(*changes, terms.departure);
  for (const auto& entry : changes->retired) check_not_paused(*entry);
  for (const auto& entry : changes->opened) check_not_paused(*entry);
  const auto claiming = std::function<void()>([changes] { claim_devices(*changes); });
  co_await run_blocking(server_.io_context, server_.pool, claiming);
  co_return changes;
}

// Clients of one file that is served in two ways would overwrite each other's blocks.
Awaitable<void> LiveExports::check_displaced(const ExportChanges& changes,
                                             Departure departure) const {
  if (departure != Departure::keep) co_return;
  for (const auto& entry : changes.displaced) {
    auto count = std::size_t{0};
    const auto counting = LiveServer::Step([&count, &entry](const Worker& worker, std::size_t) {
      count += worker.connection_count(*entry);
    });
    co_await server_.on_each_worker(counting);
    if (count > 0)
      throw UserError(fmt::format(
          "export \"{}\": {} client{} still on it, and its file cannot be served in the old and "
          "the new way at once: drain it (loopnbd ctl reload --drain), or let them detach first",
          entry->name(), count, count == 1 ? " is" : "s are"));
  }
}

void LiveExports::check_not_paused(const Export& target) const {
  if (is_paused(target))
    throw UserError(fmt::format("export \"{0}\" is paused: loopnbd ctl resume {0}", target.name()));
}

Awaitable<void> LiveExports::commit(Changes changes, Departure departure) {
  // Two steps: no client may come to a retired export once one can have come to its successor.
  const auto retiring = LiveServer::Step([&changes, departure](Worker& worker, std::size_t) {
    worker.retire(changes->retired, departure);
    worker.retire(changes->displaced, std::max(departure, Departure::drain));
  });
  co_await server_.on_each_worker(retiring);
  const auto adopting = LiveServer::Step([&changes](Worker& worker, std::size_t index) {
    worker.adopt(changes->table, std::move(changes->queues.at(index)));
  });
  co_await server_.on_each_worker(adopting);
  for (const auto& entry : changes->opened)
    co_await apply_limits(entry, entry->config().limits, entry->config().client_limits);
  table_ = changes->table;
  const auto finishing = std::function<void()>([changes] { commit_devices(*changes); });
  co_await run_blocking(server_.io_context, server_.pool, finishing);
  for (const auto& entry : changes->replaced) report_replaced(*entry);
  std::erase_if(gone_, [](const auto& entry) { return entry.expired(); });
  gone_.insert(gone_.end(), changes->retired.begin(), changes->retired.end());
}

Awaitable<std::shared_ptr<Export>> LiveExports::change_device(
    std::string name, std::shared_ptr<DeviceChange> change) {
  co_await lock_.wait_for_turn();
  const auto guard = ChangeLock::Guard(lock_);
  auto target = find(name);
  check_not_paused(*target);
  auto config = change->configure(*target);
  auto exchange = DeviceExchange(server_, quiescer_, group_of(*target));
  auto failure = std::exception_ptr();
  try {
    co_await exchange.prepare(change, std::move(config));
  } catch (...) {
    failure = std::current_exception();
  }
  if (failure != nullptr) {
    co_await exchange.roll_back(change);
    std::rethrow_exception(failure);
  }
  co_await exchange.commit();
  change->commit(*target);
  log::info("export \"{}\": {}", name, change->describe(*target));
  co_return target;
}

Awaitable<void> LiveExports::pause(std::string name, std::chrono::seconds longest) {
  co_await lock_.wait_for_turn();
  const auto guard = ChangeLock::Guard(lock_);
  const auto target = find(name);
  check_not_paused(*target);
  auto group = group_of(*target);
  co_await pauses_.begin(std::move(group), std::move(name), longest);
}

Awaitable<void> LiveExports::resume(std::string name) {
  co_await lock_.wait_for_turn();
  const auto guard = ChangeLock::Guard(lock_);
  const auto target = find(name);
  const auto was_paused = co_await pauses_.end(*target);
  if (!was_paused) throw UserError(fmt::format("export \"{}\" is not paused", name));
  log::info("export \"{}\": resumed", name);
}

Awaitable<void> LiveExports::clear_sync_error(std::string name) {
  co_await lock_.wait_for_turn();
  const auto guard = ChangeLock::Guard(lock_);
  const auto target = find(name);
  const auto device = target->device();
  const auto before = device->sync_error();
  if (before == 0) throw UserError(fmt::format("no sync of export \"{}\" has failed", name));
  // Each of them has open files of its own, which the kernel tells of the failure.
  auto devices = std::vector<std::shared_ptr<engine::BlockDevice>>{};
  const auto add = [&](const auto& entry) {
    if (entry->device()->same_store(*device)) devices.push_back(entry->device());
  };
  std::ranges::for_each(table_->all(), add);
  std::ranges::for_each(gone(), add);
  const auto error = std::make_shared<int>(0);
  const auto clearing = std::function<void()>([devices, error] {
    for (const auto& each : devices)
      if (*error == 0) *error = each->clear_sync_error();
  });
  co_await run_blocking(server_.io_context, server_.pool, clearing);
  if (*error != 0)
    throw UserError(
        fmt::format("export \"{}\": its file still cannot be synced: {}; check the disk", name,
                    std::strerror(-*error)));
  log::warn("export \"{}\": an operator has cleared its sync error ({}): flushes succeed again",
            name, std::strerror(-before));
}

void LiveExports::look_at_files() {
  for (const auto& entry : table_->all())
    if (entry->begin_look())
      run_detached(server_.pool, [entry] { entry->end_look(!entry->device()->is_at_path()); });
}

Awaitable<void> LiveExports::limit(std::string name, RateLimits all, RateLimits each_client) {
  co_await lock_.wait_for_turn();
  const auto guard = ChangeLock::Guard(lock_);
  co_await apply_limits(find(name), all, each_client);
}

Awaitable<void> LiveExports::apply_limits(std::shared_ptr<Export> target, RateLimits all,
                                          RateLimits each_client) {
  target->limiter().set(all, each_client);
  const auto charging =
      LiveServer::Step([&target](Worker& worker, std::size_t) { worker.limits_changed(*target); });
  co_await server_.on_each_worker(charging);
}

void LiveExports::end() {
  lock_.close();
  pauses_.end_all();
}

Awaitable<std::size_t> LiveExports::end_connections(std::optional<std::uint64_t> id,
                                                    std::optional<std::string> name,
                                                    Departure departure) {
  // An export that was changed may have clients in its old form, too.
  const auto chosen = [&](const Connection& connection) {
    return id ? connection.id() == *id : connection.target().name() == *name;
  };
  auto count = std::size_t{0};
  const auto ending = LiveServer::Step(
      [&](Worker& worker, std::size_t) { count += worker.end_connections(chosen, departure); });
  co_await server_.on_each_worker(ending);
  if (count == 0 && name) find(*name);
  co_return count;
}

std::shared_ptr<Export> LiveExports::find(const std::string& name) const {
  auto target = name.empty() ? nullptr : table_->find(name);
  if (target == nullptr) throw UserError(fmt::format("there is no export \"{}\"", name));
  return target;
}

ExportGroup LiveExports::group_of(const Export& target) const {
  auto group = gone();
  std::erase_if(group, [&](const auto& entry) { return entry->device() != target.device(); });
  std::ranges::copy_if(table_->all(), std::back_inserter(group),
                       [&](const auto& entry) { return entry->device() == target.device(); });
  return group;
}

std::vector<std::shared_ptr<Export>> LiveExports::gone() const {
  auto alive = std::vector<std::shared_ptr<Export>>{};
  for (const auto& entry : gone_)
    if (auto target = entry.lock()) alive.push_back(std::move(target));
  return alive;
}

bool LiveExports::sync_all() {
  auto targets = table_->all();
  std::ranges::move(gone(), std::back_inserter(targets));
  auto synced = std::atomic<bool>{true};
  {
    auto pool = engine::BlockingPool(syncs_at_once);
    for (const auto& target : targets)
      run_detached(pool, [&] {
        if (!sync(*target)) synced = false;
      });
  }
  return synced;
}

}  // namespace server
