// The exports of a running server and their way to the workers. Used on the accepting thread;
// changes are coroutines there, one after the other.
#pragma once

#include <chrono>
#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "engine/blocking_pool.h"
#include "server/base/asio.h"
#include "server/config/bounds.h"
#include "server/export/export.h"
#include "server/live/export_changes.h"
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

  // Makes the exports those that `edit` makes of the present ones. All that is new is opened before
  // anything changes; when that fails, it throws as open() does, and nothing has changed.
  using Configs = std::vector<ExportConfig>;
  using Edit = std::function<Configs(Configs)>;
  Awaitable<ChangedNames> change(Edit edit, Departure departure);

  // Operations on an export while its clients stay attached. Each throws with a message for people
  // when it cannot be done, and leaves the export as it was.
  Awaitable<void> set_direct_io(std::string name, bool on);
  // Another file, of the same size, under a read-only export.
  Awaitable<void> swap(std::string name, std::string path);
  // New connections get the new size, which it returns: `size`, for which a file may be made
  // longer, or what there is of the file. Clients of a smaller export lose their connections, which
  // wants `force`.
  Awaitable<std::uint64_t> resize(std::string name, std::optional<std::uint64_t> size, bool force);
  // Until resume(), no request is begun; all that was acknowledged is on the disk.
  Awaitable<void> pause(std::string name, std::chrono::seconds longest);
  Awaitable<void> resume(std::string name);
  // Ends all pauses, and refuses changes from now on: the server ends.
  void end();
  // While a change is under way, what it works on has to stay.
  bool changing() const noexcept { return changing_; }
  bool is_paused(const Export& target) const noexcept;

  Awaitable<void> limit(std::string name, RateLimits all, RateLimits each_client);
  std::shared_ptr<Export> find(const std::string& name) const;

  // Of one number or on one export; how many that were.
  Awaitable<std::size_t> end_connections(std::optional<std::uint64_t> id,
                                         std::optional<std::string> name, Departure departure);

  // Waits until everything acknowledged is durable, of the exports that have left as well. False:
  // not everything is. For the end of the server.
  bool sync_all();

 private:
  // Ends the turn that wait_for_turn() has begun.
  class Turn {
   public:
    explicit Turn(LiveExports& exports) : exports_(exports) {}
    ~Turn() {
      exports_.changing_ = false;
      exports_.change_over_.cancel();
    }
    Turn(const Turn&) = delete;
    Turn& operator=(const Turn&) = delete;

   private:
    LiveExports& exports_;
  };
  using Group = std::vector<std::shared_ptr<Export>>;
  struct Exchange;
  struct Pause {
    std::shared_ptr<Export> target;
    std::uint64_t number;
    std::unique_ptr<Timer> end;
  };

  static constexpr std::string_view server_is_ending = "the server is ending";
  Awaitable<void> wait_for_turn();
  Awaitable<void> check_displaced(const ExportChanges& changes, Departure departure);
  Awaitable<void> publish(ExportChanges& changes, Departure departure);
  using Step = std::function<void(Worker&, std::size_t index)>;
  Awaitable<void> on_each_worker(const Step& step);
  std::vector<std::shared_ptr<Export>> gone() const;

  // live_operations.cpp
  std::shared_ptr<Export> find_working(const std::string& name) const;
  Group group_of(const Export& target) const;
  Awaitable<void> bring_to_rest(Group group);
  Awaitable<void> let_go(Group group);
  Awaitable<void> exchange_device(Group group, Exchange& exchange);
  // Refuses, by an exception, the device that would take the place of the old one.
  using Check =
      std::function<void(const engine::BlockDevice& device, const engine::BlockDevice& old)>;
  Awaitable<void> put_in_place(std::shared_ptr<Export> target, ExportConfig config, Check check);
  Awaitable<void> apply_limits(std::shared_ptr<Export> target, RateLimits all,
                               RateLimits each_client);
  Awaitable<void> end_pause(std::string name, std::uint64_t number);

  const Bounds& bounds_;
  asio::io_context& io_context_;
  engine::BlockingPool& pool_;
  Workers& workers_;
  std::shared_ptr<const ExportTable> table_;
  std::vector<std::weak_ptr<Export>> gone_;  // no longer in the table, perhaps still served
  std::vector<Pause> pauses_;
  std::uint64_t pause_count_ = 0;
  bool changing_ = false;
  bool ending_ = false;
  Timer change_over_;  // never expires; cancelled when a change has come to its end
};

}  // namespace server
