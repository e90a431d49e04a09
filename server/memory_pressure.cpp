#include "server/memory_pressure.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <linux/prctl.h>
#include <malloc.h>
#include <pthread.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>
#include <string_view>

#include "server/unique_fd.h"

namespace server {
namespace {

// Locked as a whole, for each thread.
constexpr std::size_t stack_size = 512U << 10;  // bytes
// Taken from the kernel at once when the heap grows; never given back.
constexpr int heap_step = 4 << 20;  // bytes

}  // namespace

std::vector<std::string> prepare_for_memory_pressure() {
  auto failures = std::vector<std::string>{};
  const auto note = [&failures](std::string_view what) {
    failures.push_back(fmt::format("cannot {}: {}", what, std::strerror(errno)));
  };
  auto attributes = pthread_attr_t{};
  ::pthread_attr_init(&attributes);
  ::pthread_attr_setstacksize(&attributes, stack_size);
  ::pthread_setattr_default_np(&attributes);
  ::pthread_attr_destroy(&attributes);
  ::mallopt(M_TRIM_THRESHOLD, -1);
  ::mallopt(M_TOP_PAD, heap_step);

  if (::prctl(PR_SET_IO_FLUSHER, 1, 0, 0, 0) != 0)
    note("be treated as one who writes dirty pages (PR_SET_IO_FLUSHER)");
  const auto unlimited = rlimit{.rlim_cur = RLIM_INFINITY, .rlim_max = RLIM_INFINITY};
  ::setrlimit(RLIMIT_MEMLOCK, &unlimited);
  if (::mlockall(MCL_CURRENT | MCL_FUTURE) != 0) note("lock its memory");
  const auto score = UniqueFd(::open("/proc/self/oom_score_adj", O_WRONLY | O_CLOEXEC));
  constexpr std::string_view never = "-1000";
  if (::write(score.get(), never.data(), never.size()) != static_cast<ssize_t>(never.size()))
    note("be spared when memory runs out (oom_score_adj)");
  return failures;
}

}  // namespace server
