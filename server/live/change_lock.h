// Changes of the exports happen one after the other, and none begins once the server ends. A
// coroutine waits for its turn, then holds the lock by a guard. Used on the accepting thread.
#pragma once

#include "server/base/asio.h"
#include "server/base/event.h"

namespace server {

class ChangeLock {
 public:
  // Holds the lock, which is free, for as long as it lives.
  class Guard {
   public:
    explicit Guard(ChangeLock& lock);
    ~Guard();
    Guard(const Guard&) = delete;
    Guard& operator=(const Guard&) = delete;

   private:
    ChangeLock& lock_;
  };

  explicit ChangeLock(asio::io_context& io_context) : released_(io_context) {}

  // Waits until the lock is free. It stays so until the caller waits for something else.
  Awaitable<void> wait_until_free();
  // The same for a new change. Throws UserError when the server ends.
  Awaitable<void> wait_for_turn();
  // The server ends: no change begins any more.
  void close() noexcept { closed_ = true; }
  // Throws UserError when the server ends.
  void check_open() const;

  bool held() const noexcept { return held_; }
  bool closed() const noexcept { return closed_; }

 private:
  bool held_ = false;
  bool closed_ = false;
  Event released_;
};

}  // namespace server
