// Waiting for what another thread does and no event tells.
#pragma once

#include <chrono>
#include <thread>

namespace test {

// Looks until `done` says so. False: it has not for ten seconds.
template <typename Done>
[[nodiscard]] bool eventually(const Done& done) {
  const auto deadline = std::chrono::steady_clock::now() + std::chrono::seconds(10);
  while (!done()) {
    if (std::chrono::steady_clock::now() > deadline) return false;
    std::this_thread::yield();
  }
  return true;
}

}  // namespace test
