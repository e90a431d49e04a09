#include "server/live/pauses.h"

#include <algorithm>
#include <utility>

#include "server/base/log.h"

namespace server {

Awaitable<void> Pauses::begin(ExportGroup group, std::string name, std::chrono::seconds longest) {
  co_await quiescer_.quiesce(group);
  if (lock_.closed()) {
    co_await quiescer_.resume(group);
    lock_.check_open();
  }
  const auto number = ++count_;
  auto deadline = std::make_unique<Timer>(io_context_, longest);
  deadline->async_wait([this, name, number](const boost::system::error_code& cancelled) {
    if (!cancelled) asio::co_spawn(io_context_, expire(name, number), asio::detached);
  });
  pauses_.push_back({std::move(group), number, std::move(deadline)});
  log::info("export \"{}\": paused for {} s at most; all that was acknowledged is on the disk",
            name, longest.count());
}

Awaitable<bool> Pauses::end(const Export& target) {
  const auto found = std::ranges::find_if(
      pauses_, [&](const auto& pause) { return pause.group.front()->device() == target.device(); });
  if (found == pauses_.end()) co_return false;
  auto group = std::move(found->group);
  pauses_.erase(found);
  co_await quiescer_.resume(std::move(group));
  co_return true;
}

Awaitable<void> Pauses::expire(std::string name, std::uint64_t number) {
  co_await lock_.wait_until_free();
  // It may have been ended meanwhile, and another one of the same export begun.
  const auto found = std::ranges::find(pauses_, number, &Pause::number);
  if (found == pauses_.end()) co_return;
  const auto guard = ChangeLock::Guard(lock_);
  auto group = std::move(found->group);
  pauses_.erase(found);
  log::warn("export \"{}\": resumed: it was paused for as long as it may be", name);
  co_await quiescer_.resume(std::move(group));
}

void Pauses::end_all() {
  for (const auto& pause : std::exchange(pauses_, {})) quiescer_.resume_detached(pause.group);
}

bool Pauses::contain(const Export& target) const noexcept {
  return std::ranges::any_of(
      pauses_, [&](const auto& pause) { return pause.group.front()->device() == target.device(); });
}

}  // namespace server
