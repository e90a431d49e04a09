#include "server/serving/progress.h"

#include <algorithm>

namespace server {

bool Progress::too_slow(std::chrono::nanoseconds period) const noexcept {
  if (held == 0) return false;
  const auto seconds = std::chrono::duration<double>(period).count();
  const auto time_for_all_seconds = std::chrono::duration<double>(time_for_all).count();
  const auto rate =
      std::min(static_cast<double>(held) / time_for_all_seconds, static_cast<double>(rate_enough));
  return static_cast<double>(moved) < rate * seconds;
}

bool Progress::slower_than(const Progress& other) const noexcept {
  const auto mine = static_cast<double>(moved) * static_cast<double>(other.held);
  const auto its = static_cast<double>(other.moved) * static_cast<double>(held);
  return mine < its || (mine == its && held > other.held);
}

}  // namespace server
