// The table of exports of a running server, and all that changes it or one of the exports in it.
// A change prepares what it needs, which may fail and leaves everything as it was; then it commits,
// which cannot. Used on the accepting thread; changes are coroutines there, one after the other.
#pragma once

#include <chrono>
#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "engine/blocking_pool.h"
#include "server/base/asio.h"
#include "server/config/bounds.h"
#include "server/export/export.h"
#include "server/live/change_lock.h"
#include "server/live/device_change.h"
#include "server/live/export_changes.h"
#include "server/live/live_server.h"
#include "server/live/pauses.h"
#include "server/live/quiescer.h"
#include "server/serving/worker.h"

namespace server {

class LiveExports {
 public:
  // All of them outlive it; so does io_context the pool, whose work ends there.
  LiveExports(const Bounds& bounds, asio::io_context& io_context, engine::BlockingPool& pool,
              Workers& workers);
  LiveExports(const LiveExports&) = delete;
  LiveExports& operator=(const LiveExports&) = delete;

  // Before the workers are made. Throws UserError or std::runtime_error with a message for
  // people.
  void open(const std::vector<ExportConfig>& configs);
  // For each worker, before it starts.
  void connect(Worker& worker);

  const std::shared_ptr<const ExportTable>& table() const noexcept { return table_; }

  struct Terms {
    Departure departure = Departure::keep;
    bool reopen_replaced = false;  // as in PlanTerms
    // Done when nothing can fail any more, before anything else changes.
    std::function<void()> before_commit = [] {};
  };
  // Makes the exports those that `edit` makes of the present ones. All that is new is opened before
  // anything changes; when that fails, it throws as open() does, and nothing has changed.
  using Configs = std::vector<ExportConfig>;
  using Edit = std::function<Configs(Configs)>;
  Awaitable<ChangedNames> change(Edit edit, Terms terms);

  // Changes the device under an export while its clients stay attached; gives the export. Throws
  // with a message for people when it cannot be done, and leaves the export as it was.
  Awaitable<std::shared_ptr<Export>> change_device(std::string name,
                                                   std::shared_ptr<DeviceChange> change);
  // Until resume(), no request is begun; all that was acknowledged is on the disk.
  Awaitable<void> pause(std::string name, std::chrono::seconds longest);
  Awaitable<void> resume(std::string name);
  bool is_paused(const Export& target) const noexcept { return pauses_.contain(target); }
  // Lets flushes of its file succeed again after a sync has failed. Throws UserError when none has,
  // or when the file cannot be synced now.
  Awaitable<void> clear_sync_error(std::string name);
  // Looks whether the paths of the exports lead to their files still, for the status; does not wait
  // for the end of it, which may block.
  void look_at_files();
  Awaitable<void> limit(std::string name, RateLimits all, RateLimits each_client);

  // Ends all pauses, and refuses changes from now on: the server ends.
  void end();
  // While a change is under way, what it works on has to stay.
  bool changing() const noexcept { return lock_.held(); }

  // Throws UserError when there is none of this name.
  std::shared_ptr<Export> find(const std::string& name) const;

  // Of one number or on one export; how many that were.
  Awaitable<std::size_t> end_connections(std::optional<std::uint64_t> id,
                                         std::optional<std::string> name, Departure departure);

  // Waits until everything acknowledged is durable, of the exports that have left as well. False:
  // not everything is. For the end of the server.
  bool sync_all();

 private:
  using Changes = std::shared_ptr<ExportChanges>;

  Awaitable<Changes> prepare(Edit edit, const Terms& terms);
  Awaitable<void> check_displaced(const ExportChanges& changes, Departure departure) const;
  void check_not_paused(const Export& target) const;
  Awaitable<void> commit(Changes changes, Departure departure);
  Awaitable<void> apply_limits(std::shared_ptr<Export> target, RateLimits all,
                               RateLimits each_client);
  std::vector<std::shared_ptr<Export>> gone() const;
  ExportGroup group_of(const Export& target) const;

  const LiveServer server_;
  std::shared_ptr<const ExportTable> table_;
  std::vector<std::weak_ptr<Export>> gone_;  // no longer in the table, perhaps still served
  ChangeLock lock_;
  Quiescer quiescer_;
  Pauses pauses_;
  engine::BlockingPool closing_pool_;  // for exports that have left
};

}  // namespace server
