#include "server/live/change_lock.h"

#include "engine/check.h"
#include "server/base/user_error.h"

namespace server {

ChangeLock::Guard::Guard(ChangeLock& lock) : lock_(lock) {
  LOOPNBD_ASSERT(!lock_.held_);
  lock_.held_ = true;
}

ChangeLock::Guard::~Guard() {
  lock_.held_ = false;
  lock_.released_.signal();
}

Awaitable<void> ChangeLock::wait_until_free() {
  while (held_) co_await released_.wait();
}

Awaitable<void> ChangeLock::wait_for_turn() {
  co_await wait_until_free();
  check_open();
}

void ChangeLock::check_open() const {
  if (closed_) throw UserError("the server is ending");
}

}  // namespace server
