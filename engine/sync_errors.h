// The failed syncs of what a process serves, for longer than its devices live: after a failed sync
// the kernel may have dropped data, and whoever opens the file again is not told. Any thread.
#pragma once

#include <atomic>
#include <map>
#include <memory>
#include <string>

#include "engine/mutex.h"

namespace engine {

// 0, or the -errno of the first sync that failed since it was cleared.
class SyncError {
 public:
  int value() const noexcept { return value_.load(std::memory_order_acquire); }
  // Makes `error` stick unless another one does. False: another one does.
  bool set(int error) noexcept {
    auto none = 0;
    return value_.compare_exchange_strong(none, error, std::memory_order_acq_rel);
  }
  void clear() noexcept { value_.store(0, std::memory_order_release); }

 private:
  std::atomic<int> value_{0};
};

class SyncErrors {
 public:
  // The one of a store, which all devices on it share; `store` names no other, not even later on.
  std::shared_ptr<SyncError> of(const std::string& store) {
    const MutexLock lock(mutex_);
    std::erase_if(errors_, [](const auto& entry) {
      return entry.second.use_count() == 1 && entry.second->value() == 0;
    });
    auto& error = errors_[store];
    if (error == nullptr) error = std::make_shared<SyncError>();
    return error;
  }

 private:
  Mutex mutex_;
  std::map<std::string, std::shared_ptr<SyncError>> errors_ LOOPNBD_GUARDED_BY(mutex_);
};

}  // namespace engine
