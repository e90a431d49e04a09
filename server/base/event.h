// Something that happens, for the coroutines that wait for it. Belongs to one io_context and is
// used on its thread. It remembers nothing: a coroutine looks at the state that it waits for, waits
// while that is not so, and looks again.
#pragma once

#include "server/base/asio.h"

namespace server {

class Event {
 public:
  explicit Event(asio::io_context& io_context) : timer_(io_context, Timer::time_point::max()) {}

  // Ends with the next signal().
  Awaitable<void> wait() { co_await timer_.async_wait(as_result); }
  // Wakes all that wait.
  void signal() { timer_.cancel(); }

 private:
  Timer timer_;  // never expires; each signal cancels the waits for it
};

}  // namespace server
