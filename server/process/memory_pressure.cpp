#include "server/process/memory_pressure.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <linux/prctl.h>
#include <malloc.h>
#include <pthread.h>
#include <sched.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <unistd.h>

#include <cerrno>
#include <cstdint>
#include <cstring>
#include <fstream>
#include <stdexcept>
#include <string_view>

#include "engine/file_descriptor.h"

namespace server {
namespace {

// Locked as a whole, for each thread.
constexpr std::size_t stack_size = 512U << 10;  // bytes
// Taken from the kernel at once when the heap grows; never given back.
constexpr int heap_step = 4 << 20;  // bytes
// Of the kernel, in which there is room for the sockets and the direct I/O of the process. With a
// reserve of 2 MiB swapping came to a standstill in tests, with this it went on.
constexpr std::uint64_t reserve_min_kib = 16384;
constexpr auto reserve_setting = "/proc/sys/vm/min_free_kbytes";

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
  // One heap for all threads: each would lock another.
  ::mallopt(M_ARENA_MAX, 1);
  ::mallopt(M_TRIM_THRESHOLD, -1);
  ::mallopt(M_TOP_PAD, heap_step);

  if (::prctl(PR_SET_IO_FLUSHER, 1, 0, 0, 0) != 0)
    note("be treated as one who writes dirty pages (PR_SET_IO_FLUSHER)");
  const auto unlimited = rlimit{.rlim_cur = RLIM_INFINITY, .rlim_max = RLIM_INFINITY};
  ::setrlimit(RLIMIT_MEMLOCK, &unlimited);
  if (::mlockall(MCL_CURRENT | MCL_FUTURE) != 0) note("lock its memory");
  const auto score =
      engine::FileDescriptor(::open("/proc/self/oom_score_adj", O_WRONLY | O_CLOEXEC));
  constexpr std::string_view never = "-1000";
  if (::write(score.get(), never.data(), never.size()) != static_cast<ssize_t>(never.size()))
    note("be spared when memory runs out (oom_score_adj)");
  return failures;
}

void prepare_for_swap() {
  auto reserve_kib = std::uint64_t{0};
  std::ifstream(reserve_setting) >> reserve_kib;
  if (reserve_kib < reserve_min_kib)
    throw std::runtime_error(fmt::format(
        "the kernel keeps {} KiB of memory in reserve, and swapping to the device needs {}: set it "
        "with sysctl vm.min_free_kbytes={} (and in /etc/sysctl.d for the next start)",
        reserve_kib, reserve_min_kib, reserve_min_kib));
  // The least priority of all: what matters is to be one of them.
  const auto priority = sched_param{.sched_priority = ::sched_get_priority_min(SCHED_RR)};
  if (::sched_setscheduler(0, SCHED_RR, &priority) != 0)
    throw std::runtime_error(fmt::format(
        "cannot become a real-time process, which --swap needs: {}; this needs root (the "
        "capability CAP_SYS_NICE)",
        std::strerror(errno)));
}

}  // namespace server
