// Lets one system call of this process fail. The program that links failing_calls.cpp calls its
// open(), fcntl() and so on in the place of the C library's. One test at a time.
#pragma once

#include <cerrno>
#include <string>

namespace test {

// While it lives, the call number `number` (from 0) that any thread makes fails with `error`.
class FailingCall {
 public:
  // `only`: calls of this function count, and no others; empty: all do. It outlives the object.
  explicit FailingCall(long number, const char* only = "", int error = EIO);
  ~FailingCall();
  FailingCall(const FailingCall&) = delete;
  FailingCall& operator=(const FailingCall&) = delete;

  // False: there were not so many calls.
  static bool happened();
  // The name of the function that failed; empty: none has.
  static std::string name();
};

}  // namespace test
