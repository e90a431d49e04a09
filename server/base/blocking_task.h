// Blocking work for a coroutine: done on a thread of the engine's pool, while the coroutine's
// thread goes on with other things.
#pragma once

#include <chrono>
#include <functional>

#include "engine/blocking_pool.h"
#include "server/base/asio.h"

namespace server {

// Runs a copy of `work` on the pool; throws what it throws. `work` owns what it refers to, or that
// outlives the pool: when the io_context ends early, the work still goes on.
Awaitable<void> run_blocking(asio::io_context& io_context, engine::BlockingPool& pool,
                             const std::function<void()>& work);

// The same, but waits for at most `longest`. False: the work still goes on, and nobody hears of its
// end.
Awaitable<bool> run_blocking_for(asio::io_context& io_context, engine::BlockingPool& pool,
                                 const std::function<void()>& work, std::chrono::seconds longest);

// The same for work that opens or reads files for a change, for which other changes wait. Throws
// UserError when it does not end.
Awaitable<void> open_in_time(asio::io_context& io_context, engine::BlockingPool& pool,
                             const std::function<void()>& work);

// Runs `work`, which must not throw, on the pool at some time; nobody waits for it.
void run_detached(engine::BlockingPool& pool, std::function<void()> work);

}  // namespace server
