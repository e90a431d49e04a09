#include "engine/file/file_probe.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <linux/falloc.h>
#include <linux/stat.h>
#include <sys/sysmacros.h>
#include <sys/uio.h>
#include <unistd.h>

#include <algorithm>
#include <bit>
#include <cerrno>
#include <cstddef>
#include <cstdlib>
#include <fstream>
#include <memory>
#include <new>
#include <span>
#include <string>

namespace engine {

namespace {

constexpr std::uint32_t alignment_min = 512;
constexpr std::uint32_t alignment_safe = 4096;      // bytes: disks have no larger sectors
constexpr std::uint32_t alignment_max = 64U << 10;  // bytes: Geometry::block_size goes no further

struct FreeMemory {
  void operator()(std::byte* memory) const noexcept { std::free(memory); }
};
using Memory = std::unique_ptr<std::byte[], FreeMemory>;

Memory make_memory(std::size_t size) {
  Memory memory(static_cast<std::byte*>(std::aligned_alloc(alignment_max, size)));
  if (!memory) throw std::bad_alloc();
  return memory;
}

// The kernel's own word (Linux 6.1 on, where the file system cooperates). Zero: it says that
// direct I/O is impossible. Nothing: it says nothing.
std::optional<std::uint32_t> stated_alignment(int fd) {
  struct statx status {};
  if (::statx(fd, "", AT_EMPTY_PATH, STATX_DIOALIGN, &status) != 0) return std::nullopt;
  if ((status.stx_mask & STATX_DIOALIGN) == 0) return std::nullopt;
  if (status.stx_dio_offset_align == 0) return 0;
  // One number for all three, at least a sector so that a block is worth the name.
  return std::bit_ceil(
      std::max({status.stx_dio_offset_align, status.stx_dio_mem_align, alignment_min}));
}

enum class Trial : std::uint8_t { refused, of_zeroes, of_data };

// A read that is aligned to `alignment` and to nothing more, of data if there is any to be found.
Trial trial_read(int fd, std::uint32_t alignment, std::uint64_t size) {
  const auto memory = make_memory(2 * alignment_max);
  const std::uint64_t unit = 2 * std::uint64_t{alignment};
  const auto data = ::lseek(fd, 0, SEEK_DATA);
  const auto from = data > 0 ? static_cast<std::uint64_t>(data) : 0;
  // The first odd multiple of the alignment there.
  auto offset = from / unit * unit + alignment;
  if (offset < from) offset += unit;
  // Behind the end of the file a kernel may answer before it looks at the alignment.
  if (offset >= size) offset = alignment < size ? alignment : 0;
  std::byte* const target = memory.get() + alignment;
  const auto got = ::pread(fd, target, alignment, static_cast<off_t>(offset));
  if (got < 0) return Trial::refused;
  const auto bytes = std::span(target, static_cast<std::size_t>(got));
  const bool zeroes = std::ranges::all_of(bytes, [](std::byte b) { return b == std::byte{0}; });
  return zeroes || offset % unit == 0 ? Trial::of_zeroes : Trial::of_data;
}

// The greatest offset that a file here may have, by asking the kernel which ones it accepts.
std::uint64_t offset_max(int fd) {
  std::uint64_t known = 0;
  for (std::uint64_t step = 1ULL << 62; step > 0; step /= 2)
    if (::lseek(fd, static_cast<off_t>(known + step), SEEK_SET) >= 0) known += step;
  ::lseek(fd, 0, SEEK_SET);
  return known;
}

}  // namespace

std::optional<std::uint32_t> probe_direct_alignment(int direct_fd, std::uint64_t size) {
  if (const auto stated = stated_alignment(direct_fd)) {
    if (*stated == 0 || *stated > alignment_max) return std::nullopt;
    return stated;
  }
  return probe_alignment_by_reading(direct_fd, size);
}

std::optional<std::uint32_t> probe_alignment_by_reading(int direct_fd, std::uint64_t size) {
  for (auto alignment = alignment_min; alignment <= alignment_max; alignment *= 2) {
    const auto trial = trial_read(direct_fd, alignment, size);
    if (trial == Trial::of_data) return alignment;
    // File systems that have no holes to show may have them nevertheless: only other bytes than
    // zeroes are certainly data.
    if (trial == Trial::of_zeroes) return std::max(alignment, alignment_safe);
  }
  return std::nullopt;
}

bool probe_nowait(int direct_fd, std::uint32_t alignment) {
  const auto memory = make_memory(alignment_max);
  const iovec vector{memory.get(), alignment};
  // Only the flag is in question; EAGAIN is an answer to it, too. Linux checks it per open file for
  // reads and writes alike.
  return ::preadv2(direct_fd, &vector, 1, 0, RWF_NOWAIT) >= 0 || errno == EAGAIN;
}

bool probe_punch_hole(int writable_fd) {
  constexpr std::uint64_t page = 4096;
  struct stat status {};
  if (::fstat(writable_fd, &status) != 0) return true;
  const auto size = static_cast<std::uint64_t>(status.st_size);
  int error = 0;
  // Where lseek has accepted more than the file system can hold, fallocate says EFBIG.
  for (auto end = offset_max(writable_fd) / page * page; end >= size + page && end >= page;
       end = end / 2 / page * page) {
    if (::fallocate(writable_fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE,
                    static_cast<off_t>(end - page), page) == 0)
      return true;
    error = errno;
    if (error != EFBIG) break;
  }
  return error != EOPNOTSUPP && error != ENOSYS;  // any other refusal is about this range
}

std::optional<std::uint64_t> queue_attribute(dev_t device, const char* name) {
  for (const char* const folder : {"queue", "../queue"}) {  // that of a partition is its parent's
    std::ifstream file(
        fmt::format("/sys/dev/block/{}:{}/{}/{}", major(device), minor(device), folder, name));
    std::uint64_t value = 0;
    if (file >> value) return value;
  }
  return std::nullopt;
}

}  // namespace engine
