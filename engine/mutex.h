// A mutex whose use clang checks (-Wthread-safety, in test/tidy): what is guarded is declared with
// LOOPNBD_GUARDED_BY, and a function that wants the mutex held with LOOPNBD_REQUIRES. The standard
// library's own is not annotated. Other compilers see a std::mutex and nothing else.
//
// The analysis looks at one function at a time, and lambdas are functions of their own: a condition
// is waited for in a loop, not with a predicate.
#pragma once

#include <chrono>
#include <condition_variable>
#include <mutex>

#ifdef __clang__
#define LOOPNBD_THREAD_ATTRIBUTE(...) __attribute__((__VA_ARGS__))
#else
#define LOOPNBD_THREAD_ATTRIBUTE(...)
#endif

#define LOOPNBD_GUARDED_BY(mutex) LOOPNBD_THREAD_ATTRIBUTE(guarded_by(mutex))
#define LOOPNBD_REQUIRES(mutex) LOOPNBD_THREAD_ATTRIBUTE(requires_capability(mutex))

namespace engine {

class LOOPNBD_THREAD_ATTRIBUTE(capability("mutex")) Mutex {
 public:
  Mutex() = default;
  Mutex(const Mutex&) = delete;
  Mutex& operator=(const Mutex&) = delete;

  void lock() LOOPNBD_THREAD_ATTRIBUTE(acquire_capability()) { mutex_.lock(); }
  void unlock() LOOPNBD_THREAD_ATTRIBUTE(release_capability()) { mutex_.unlock(); }
  // Tells the analysis what it cannot see: that this is the mutex that the caller holds under
  // another name. Does nothing.
  void assert_held() const noexcept LOOPNBD_THREAD_ATTRIBUTE(assert_capability(this)) {}

 private:
  friend class ConditionVariable;
  std::mutex mutex_;
};

// Holds the mutex while it lives.
class LOOPNBD_THREAD_ATTRIBUTE(scoped_lockable) MutexLock {
 public:
  explicit MutexLock(Mutex& mutex) LOOPNBD_THREAD_ATTRIBUTE(acquire_capability(mutex))
      : mutex_(mutex) {
    mutex_.lock();
  }
  ~MutexLock() LOOPNBD_THREAD_ATTRIBUTE(release_capability()) { mutex_.unlock(); }
  MutexLock(const MutexLock&) = delete;
  MutexLock& operator=(const MutexLock&) = delete;

 private:
  Mutex& mutex_;
};

class ConditionVariable {
 public:
  void notify_one() noexcept { condition_.notify_one(); }
  void notify_all() noexcept { condition_.notify_all(); }

  // May return for no reason.
  void wait(Mutex& mutex) LOOPNBD_REQUIRES(mutex) {
    std::unique_lock lock(mutex.mutex_, std::adopt_lock);
    condition_.wait(lock);
    lock.release();
  }
  // False: it is later than `deadline`.
  bool wait_until(Mutex& mutex, std::chrono::steady_clock::time_point deadline)
      LOOPNBD_REQUIRES(mutex) {
    std::unique_lock lock(mutex.mutex_, std::adopt_lock);
    const auto status = condition_.wait_until(lock, deadline);
    lock.release();
    return status == std::cv_status::no_timeout;
  }

 private:
  std::condition_variable condition_;
};

}  // namespace engine
