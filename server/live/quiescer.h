// Brings the device of a group of exports to rest while their clients stay attached: the workers
// hold back what is submitted from then on, what is in flight completes, everything is synced. Then
// the device may be looked at, or another may take its place. Used on the accepting thread, by one
// change at a time.
#pragma once

#include <chrono>

#include "server/base/asio.h"
#include "server/live/live_server.h"

namespace server {

class Quiescer {
 public:
  // `server` outlives it. `patience`: within it a device finishes what it has; a client's own is
  // longer.
  explicit Quiescer(const LiveServer& server,
                    std::chrono::seconds patience = std::chrono::seconds(20))
      : server_(server), patience_(patience) {}

  // Throws UserError when the device does not come to rest or cannot be synced; then the group has
  // been resumed.
  Awaitable<void> quiesce(ExportGroup group);
  // Submits what was held back.
  Awaitable<void> resume(ExportGroup group);
  // Does the same without waiting for it: for the end of the server.
  void resume_detached(const ExportGroup& group);

 private:
  Awaitable<bool> wait_for_rest(const ExportGroup& group);
  Awaitable<int> sync(std::shared_ptr<engine::BlockDevice> device);

  const LiveServer& server_;
  const std::chrono::seconds patience_;
};

}  // namespace server
