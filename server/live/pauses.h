// Pauses of exports: no request is begun, and all that was acknowledged is on the disk, until the
// pause is ended or its time is up. Used on the accepting thread; but for the end of a pause whose
// time is up, the caller holds the lock of changes.
#pragma once

#include <chrono>
#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "server/base/asio.h"
#include "server/live/change_lock.h"
#include "server/live/live_server.h"
#include "server/live/quiescer.h"

namespace server {

class Pauses {
 public:
  // All of them outlive it.
  Pauses(asio::io_context& io_context, Quiescer& quiescer, ChangeLock& lock)
      : io_context_(io_context), quiescer_(quiescer), lock_(lock) {}
  Pauses(const Pauses&) = delete;
  Pauses& operator=(const Pauses&) = delete;

  // `name`: for the log. Throws UserError and leaves the group as it was when it does not come to
  // rest or the server ends.
  Awaitable<void> begin(ExportGroup group, std::string name, std::chrono::seconds longest);
  // False: the export is not paused.
  Awaitable<bool> end(const Export& target);
  // For the end of the server; waits for nothing.
  void end_all();
  // Whether the device of the export is at rest.
  bool contain(const Export& target) const noexcept;

 private:
  struct Pause {
    ExportGroup group;
    std::uint64_t number;
    std::unique_ptr<Timer> deadline;
  };

  Awaitable<void> expire(std::string name, std::uint64_t number);

  asio::io_context& io_context_;
  Quiescer& quiescer_;
  ChangeLock& lock_;
  std::vector<Pause> pauses_;
  std::uint64_t count_ = 0;  // of pauses begun
};

}  // namespace server
