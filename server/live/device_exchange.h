// Puts another device in the place of the one that a group of exports is backed by, as a
// transaction: prepare() may fail, and roll_back() makes everything as it was; commit() cannot
// fail. Used on the accepting thread, by one change at a time.
#pragma once

#include <memory>

#include "server/base/asio.h"
#include "server/live/device_change.h"
#include "server/live/live_server.h"
#include "server/live/quiescer.h"

namespace server {

class DeviceExchange {
 public:
  // `server` and `quiescer` outlive it.
  DeviceExchange(const LiveServer& server, Quiescer& quiescer, ExportGroup group);
  DeviceExchange(const DeviceExchange&) = delete;
  DeviceExchange& operator=(const DeviceExchange&) = delete;

  // Opens the device that the change wants, and its queues, then brings the old one to rest. Throws
  // UserError or std::runtime_error with a message for people.
  Awaitable<void> prepare(std::shared_ptr<DeviceChange> change, ExportConfig config);
  // After prepare() has thrown.
  Awaitable<void> roll_back(std::shared_ptr<DeviceChange> change);
  // Exchanges the devices and submits what was held back. After prepare().
  Awaitable<void> commit();

 private:
  struct Replacement;
  struct Ending;

  const LiveServer& server_;
  Quiescer& quiescer_;
  const ExportGroup group_;
  // The pool may still work on it when the server ends, hence shared.
  const std::shared_ptr<Replacement> replacement_;
};

}  // namespace server
