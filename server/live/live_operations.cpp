// The part of LiveExports that works on the device of an export while its clients stay attached.
// All of it rests on one thing: submissions are held back, what is in flight finishes, everything
// is synced. Then the device is at rest and may be looked at, or another may take its place.
#include <fmt/format.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <utility>

#include "server/base/blocking_task.h"
#include "server/base/log.h"
#include "server/base/user_error.h"
#include "server/export/open_export.h"
#include "server/live/live_exports.h"
#include "server/serving/connection.h"

namespace server {
namespace {

// What a device takes to finish what it has; a client's own patience is longer.
constexpr auto rest_deadline = std::chrono::seconds(20);

using Device = std::shared_ptr<engine::BlockDevice>;

[[noreturn]] void refuse_another_file(const std::string& path) {
  throw UserError(
      fmt::format("{} is another file, or another partition of it, than the one that is served: "
                  "remove the export and add it again",
                  path));
}

void check_same_window(const std::string& path, const engine::BlockDevice& device,
                       const engine::BlockDevice& old) {
  if (!device.same_window(old)) refuse_another_file(path);
}

// The regular file of a writable export becomes long enough for `size` bytes of it.
void lengthen(const ExportConfig& config, engine::BlockDevice& old, std::uint64_t size) {
  if (config.read_only) return;
  const int error = old.grow(size);
  if (error == 0 || error == -ENOENT) return;  // opening it says what there is to say
  if (error == -ESTALE) refuse_another_file(config.path);
  throw UserError(fmt::format("cannot make {} long enough for {} bytes of export \"{}\": {}",
                              config.path, size, config.name, std::strerror(-error)));
}

}  // namespace

// A new device and its queues for all who use the old one.
struct LiveExports::Exchange {
  Device device;
  std::vector<std::vector<LooseQueue>> queues;  // for each worker, one for each of the group

  void make_queues(const Group& group, const Bounds& bounds) {
    for (auto worker = 0U; worker < bounds.workers; ++worker) {
      auto& made = queues.emplace_back();
      for (const auto& member : group)
        made.push_back({member, device, device->make_queue(bounds.queue_depth)});
    }
  }
};

std::shared_ptr<Export> LiveExports::find(const std::string& name) const {
  auto target = name.empty() ? nullptr : table_->find(name);
  if (target == nullptr) throw UserError(fmt::format("there is no export \"{}\"", name));
  return target;
}

// All that use its device: an export that has left may share it.
LiveExports::Group LiveExports::group_of(const Export& target) const {
  auto group = gone();
  std::erase_if(group, [&](const auto& entry) { return entry->device() != target.device(); });
  std::ranges::copy_if(table_->all(), std::back_inserter(group),
                       [&](const auto& entry) { return entry->device() == target.device(); });
  return group;
}

std::shared_ptr<Export> LiveExports::find_working(const std::string& name) const {
  auto target = find(name);
  if (is_paused(*target))
    throw UserError(fmt::format("export \"{0}\" is paused: loopnbd ctl resume {0}", name));
  return target;
}

Awaitable<void> LiveExports::bring_to_rest(Group group) {
  const auto holding = Step([&group](Worker& worker, std::size_t) {
    for (const auto& member : group) worker.hold(*member);
  });
  co_await on_each_worker(holding);
  const auto deadline = std::chrono::steady_clock::now() + rest_deadline;
  auto at_rest = true;
  for (const auto& worker : workers_) {
    auto waiting = worker->wait_for_rest(group, deadline);
    at_rest = co_await asio::co_spawn(worker->io_context(), std::move(waiting), awaiting);
    if (!at_rest) break;
  }
  auto error = std::make_shared<int>(0);
  const auto device = group.front()->device();
  const auto syncing = std::function<void()>([error, device] { *error = device->sync(); });
  if (at_rest && !device->geometry().read_only) co_await run_blocking(io_context_, pool_, syncing);
  if (at_rest && *error == 0) co_return;
  co_await let_go(group);
  throw UserError(
      at_rest ? fmt::format("export \"{}\" stays as it is: its sync failed: {}",
                            group.back()->name(), std::strerror(-*error))
              : fmt::format("export \"{}\" stays as it is: its device has not finished what it was "
                            "given within {} s",
                            group.back()->name(), rest_deadline.count()));
}

Awaitable<void> LiveExports::let_go(Group group) {
  const auto letting_go = Step([&group](Worker& worker, std::size_t) {
    for (const auto& member : group) worker.let_go(*member);
  });
  co_await on_each_worker(letting_go);
}

Awaitable<void> LiveExports::exchange_device(Group group, Exchange& exchange) {
  const auto exchanging = Step([&exchange](Worker& worker, std::size_t index) {
    for (auto& queue : exchange.queues.at(index)) worker.exchange(queue);
  });
  co_await on_each_worker(exchanging);
  for (const auto& member : group) member->set_device(exchange.device);
  co_await let_go(group);
  // The queues of the old device are in their places now; taking them down may block.
  const auto old = std::make_shared<decltype(exchange.queues)>(std::move(exchange.queues));
  run_detached(pool_, [old] { old->clear(); });
}

Awaitable<void> LiveExports::put_in_place(std::shared_ptr<Export> target, ExportConfig config,
                                          Check check) {
  auto group = group_of(*target);
  const auto exchange = std::make_shared<Exchange>();
  const auto opening =
      std::function<void()>([exchange, group, config = std::move(config), check = std::move(check),
                             &bounds = bounds_, &pool = pool_] {
        const auto old = group.front()->device();
        exchange->device = open_export(config, pool, {old});
        check(*exchange->device, *old);
        const auto block_size = exchange->device->geometry().block_size;
        if (block_size > std::max(old->geometry().block_size, request_alignment))
          throw UserError(
              fmt::format("{} wants blocks of {} bytes, for which the requests under way are not "
                          "laid out",
                          config.path, block_size));
        exchange->make_queues(group, bounds);
      });
  co_await run_blocking(io_context_, pool_, opening);
  co_await bring_to_rest(group);
  co_await exchange_device(group, *exchange);
}

Awaitable<void> LiveExports::set_direct_io(std::string name, bool on) {
  co_await wait_for_turn();
  const auto turn = Turn(*this);
  const auto target = find_working(name);
  auto config = target->config();
  config.path = target->path();
  config.direct_io = on ? engine::DirectIo::on : engine::DirectIo::off;
  config.size = target->device()->size();
  auto check = Check([path = config.path](const auto& device, const auto& old) {
    check_same_window(path, device, old);
    if (device.size() != old.size())
      throw UserError(fmt::format("{} has {} bytes for the export by now, after {}: resize it",
                                  path, device.size(), old.size()));
  });
  co_await put_in_place(target, std::move(config), std::move(check));
  log::info("export \"{}\": {} I/O from now on", name, target->device()->mode());
}

Awaitable<void> LiveExports::swap(std::string name, std::string path) {
  co_await wait_for_turn();
  const auto turn = Turn(*this);
  const auto target = find_working(name);
  if (!target->device()->geometry().read_only)
    throw UserError(fmt::format(
        "export \"{}\" is writable: only the file of a read-only export can be swapped", name));
  auto config = target->config();
  config.path = path;
  auto check = Check([name, path](const auto& device, const auto& old) {
    if (device.size() != old.size())
      throw UserError(fmt::format("{} has {} bytes, and the clients of export \"{}\" know {}", path,
                                  device.size(), name, old.size()));
  });
  co_await put_in_place(target, std::move(config), std::move(check));
  target->set_path(path);
  log::info("export \"{}\": {} from now on", name, path);
}

Awaitable<std::uint64_t> LiveExports::resize(std::string name, std::optional<std::uint64_t> size,
                                             bool force) {
  co_await wait_for_turn();
  const auto turn = Turn(*this);
  const auto target = find_working(name);
  auto config = target->config();
  if (size && !config.partition.empty())
    throw UserError(fmt::format(
        "export \"{0}\" is a partition: change the partition table, then: loopnbd ctl resize {0}",
        name));
  config.path = target->path();
  config.direct_io = target->device()->path() == engine::BlockDevice::Path::direct
                         ? engine::DirectIo::on
                         : engine::DirectIo::off;
  config.size = size;
  const auto before = target->device()->size();
  if (size && *size > before) {
    const auto making_longer = std::function<void()>(
        [config, old = target->device()] { lengthen(config, *old, *config.size); });
    co_await run_blocking(io_context_, pool_, making_longer);
  }
  auto check = Check([name, force, path = config.path](const auto& device, const auto& old) {
    check_same_window(path, device, old);
    if (device.size() < old.size() && !force)
      throw UserError(fmt::format(
          "export \"{}\" would lose its last {} bytes, and its clients their connections: --force "
          "does it",
          name, old.size() - device.size()));
  });
  co_await put_in_place(target, std::move(config), std::move(check));
  const auto now = target->device()->size();
  log::info("export \"{}\": {} bytes from now on, after {}", name, now, before);
  co_return now;
}

bool LiveExports::is_paused(const Export& target) const noexcept {
  return std::ranges::any_of(
      pauses_, [&](const auto& entry) { return entry.target->device() == target.device(); });
}

Awaitable<void> LiveExports::pause(std::string name, std::chrono::seconds longest) {
  co_await wait_for_turn();
  const auto turn = Turn(*this);
  const auto target = find_working(name);
  auto group = group_of(*target);
  co_await bring_to_rest(group);
  if (ending_) {
    co_await let_go(std::move(group));
    throw UserError(std::string(server_is_ending));
  }
  auto end = std::make_unique<Timer>(io_context_, longest);
  end->async_wait(
      [this, name, number = ++pause_count_](const boost::system::error_code& cancelled) {
        if (!cancelled) asio::co_spawn(io_context_, end_pause(name, number), asio::detached);
      });
  pauses_.push_back({target, pause_count_, std::move(end)});
  log::info("export \"{}\": paused for {} s at most; all that was acknowledged is on the disk",
            name, longest.count());
}

Awaitable<void> LiveExports::resume(std::string name) {
  co_await wait_for_turn();
  const auto turn = Turn(*this);
  const auto target = find(name);
  const auto paused = std::ranges::find_if(
      pauses_, [&](const auto& entry) { return entry.target->device() == target->device(); });
  if (paused == pauses_.end()) throw UserError(fmt::format("export \"{}\" is not paused", name));
  pauses_.erase(paused);
  co_await let_go(group_of(*target));
  log::info("export \"{}\": resumed", name);
}

Awaitable<void> LiveExports::end_pause(std::string name, std::uint64_t number) {
  while (changing_) co_await change_over_.async_wait(as_result);
  // It may have been resumed meanwhile, and be in a pause of its own again.
  const auto paused = std::ranges::find(pauses_, number, &Pause::number);
  if (paused == pauses_.end()) co_return;
  changing_ = true;
  const auto turn = Turn(*this);
  auto group = group_of(*paused->target);
  pauses_.erase(paused);
  log::warn("export \"{}\": resumed: it was paused for as long as it may be", name);
  co_await let_go(std::move(group));
}

void LiveExports::end() {
  ending_ = true;
  for (const auto& paused : std::exchange(pauses_, {}))
    for (const auto& worker : workers_)
      asio::post(worker->io_context(), [&worker, group = group_of(*paused.target)] {
        for (const auto& member : group) worker->let_go(*member);
      });
}

Awaitable<void> LiveExports::limit(std::string name, RateLimits all, RateLimits each_client) {
  co_await wait_for_turn();
  const auto turn = Turn(*this);
  co_await apply_limits(find(name), all, each_client);
}

Awaitable<void> LiveExports::apply_limits(std::shared_ptr<Export> target, RateLimits all,
                                          RateLimits each_client) {
  target->limiter().set(all, each_client);
  const auto charging =
      Step([&target](Worker& worker, std::size_t) { worker.charge_anew(*target); });
  co_await on_each_worker(charging);
}

Awaitable<std::size_t> LiveExports::end_connections(std::optional<std::uint64_t> id,
                                                    std::optional<std::string> name,
                                                    Departure departure) {
  // An export that was changed may have clients in its old form, too.
  const auto chosen = [&](const Connection& connection) {
    return id ? connection.id() == *id : connection.target().name() == *name;
  };
  auto count = std::size_t{0};
  const auto ending = Step(
      [&](Worker& worker, std::size_t) { count += worker.end_connections(chosen, departure); });
  co_await on_each_worker(ending);
  if (count == 0 && name) find(*name);
  co_return count;
}

}  // namespace server
