// LOOPNBD_ASSERT states an invariant of our own code. Where LOOPNBD_CHECKS is defined (Debug, the
// sanitizers, the fuzzers) a violation prints the condition with its place and aborts; elsewhere
// the condition is compiled but not evaluated, so it may cost what it likes and must have no
// effects. assert() stays for what is cheap enough to be on in a release, too.
#pragma once

#include <cstdio>
#include <cstdlib>

namespace engine {

#ifdef LOOPNBD_CHECKS
inline constexpr bool checks_on = true;
#else
inline constexpr bool checks_on = false;
#endif

[[noreturn]] inline void assertion_failed(const char* condition, const char* file,
                                          int line) noexcept {
  std::fprintf(stderr, "%s:%d: assertion failed: %s\n", file, line, condition);
  std::abort();
}

}  // namespace engine

#define LOOPNBD_ASSERT(condition)                                                   \
  do {                                                                              \
    if constexpr (::engine::checks_on) {                                            \
      if (!(condition)) ::engine::assertion_failed(#condition, __FILE__, __LINE__); \
    }                                                                               \
  } while (false)
