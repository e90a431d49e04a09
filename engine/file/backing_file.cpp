#include "engine/file/backing_file.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <linux/falloc.h>
#include <linux/fs.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <sys/uio.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstring>
#include <limits>
#include <utility>

namespace engine {

namespace {

// Bytes. While fallocate on a file takes blocks away no read of it goes on: 128 MiB take ext4 some
// 40 ms.
constexpr std::uint64_t piece_length_max = 8U << 20;
constexpr std::uint64_t device_piece_length_max = 128U << 20;  // nobody waits for a BLKDISCARD

// Never written to; not const, so that it costs no space in the executable.
alignas(4096) std::array<std::byte, 256U << 10> written_zeroes;

off_t to_off(std::uint64_t offset) noexcept { return static_cast<off_t>(offset); }

// Errors that write(2) gives for its arguments, the file's or the device's rights, or a limit. No
// sync ever fails with one of them.
bool is_certain_refusal(int error) noexcept {
  switch (-error) {
    case EPERM:
    case EACCES:
    case EINVAL:
    case EBADF:
    case EFAULT:
    case ETXTBSY:
    case EFBIG:
      return true;
    default:
      return false;
  }
}

}  // namespace

FileIdentity file_identity(const struct stat& status) noexcept {
  if (S_ISBLK(status.st_mode)) return {status.st_rdev, 0};
  return {status.st_dev, status.st_ino};
}

BackingFile::BackingFile(FileDescriptor direct, FileDescriptor buffered, FileTraits traits,
                         std::function<void(std::string_view)> report, FileHold hold,
                         std::shared_ptr<SyncError> sync_error)
    : direct_(std::move(direct)),
      buffered_(std::move(buffered)),
      hold_(std::move(hold)),
      traits_(std::move(traits)),
      report_(std::move(report)),
      sync_error_(std::move(sync_error)),
      can_discard_(traits_.can_discard),
      can_punch_(traits_.can_punch),
      can_zero_range_(true) {}

int BackingFile::note_sync_failure(int error) noexcept {
  if (!sync_error_->set(error)) return sync_error_->value();
  report_(
      fmt::format("{}: a sync failed ({}): writes acknowledged since the last flush may be lost. "
                  "Flushes fail from now on: check the disk and the image, then clear the error "
                  "(loopnbd ctl clear-sync-error) or restart the server",
                  traits_.path, std::strerror(-error)));
  return error;
}

bool BackingFile::is_refusal(int error) noexcept {
  return is_certain_refusal(error) || error == -ENOSPC || error == -EDQUOT;
}

void BackingFile::note_no_context(std::string_view why) noexcept {
  if (without_context_.exchange(true, std::memory_order_relaxed)) return;
  report_(fmt::format("{}: {}. It is served by threads until then, which is slower", traits_.path,
                      why));
}

int BackingFile::note_shrunk() noexcept {
  if (!shrunk_.exchange(true, std::memory_order_relaxed)) {
    report_(
        fmt::format("{}: the file has become shorter than the {} bytes that are served: reads "
                    "beyond its end fail until it is "
                    "opened again",
                    traits_.path, file_offset(traits_.size)));
  }
  return -EIO;
}

int BackingFile::sync() noexcept {
  if (const int error = sync_error(); error != 0) return error;
  const auto ticket = overlap_.begin();
  int failed = 0;
  do {
    failed = ::fdatasync(buffered_.get());
  } while (failed != 0 && errno == EINTR);
  if (failed != 0) note_sync_failure(-errno);
  overlap_.end(ticket);
  return sync_error();
}

int BackingFile::clear_sync_error() noexcept {
  // An open file is told once of a failure that others were told of before.
  for (const int fd : {direct_.get(), buffered_.get()})
    if (fd >= 0 && ::fdatasync(fd) != 0 && ::fdatasync(fd) != 0) return -errno;
  sync_error_->clear();
  return 0;
}

bool BackingFile::is_at_path() const noexcept {
  struct stat named {};
  return ::stat(traits_.path.c_str(), &named) != 0 || file_identity(named) == traits_.identity;
}

int BackingFile::claim() noexcept {
  if (hold_.lock == nullptr) return 0;
  const auto answer = hold_.lock->claim();
  if (answer == LockAnswer::locked) return 0;
  return answer == LockAnswer::failed ? -errno : -EAGAIN;
}

void BackingFile::commit() noexcept {
  if (hold_.lock != nullptr) hold_.lock->commit();
}

int BackingFile::grow(std::uint64_t size) noexcept {
  length_before_growing_ = length_after_growing_ = 0;
  struct stat named {};
  if (::stat(traits_.path.c_str(), &named) != 0) return -errno;
  if (file_identity(named) != traits_.identity) return -ESTALE;
  if (!S_ISREG(named.st_mode)) return 0;
  constexpr auto length_max = static_cast<std::uint64_t>(std::numeric_limits<off_t>::max());
  if (size > length_max || traits_.window_offset > length_max - size) return -EFBIG;
  const auto length = to_off(file_offset(size));
  if (named.st_size >= length) return 0;
  if (::ftruncate(buffered_.get(), length) != 0) return -errno;
  length_before_growing_ = named.st_size;
  length_after_growing_ = length;
  return 0;
}

int BackingFile::undo_grow() noexcept {
  const auto before = std::exchange(length_before_growing_, 0);
  const auto after = std::exchange(length_after_growing_, 0);
  if (before == after) return 0;
  struct stat status {};
  if (::fstat(buffered_.get(), &status) != 0) return -errno;
  // Somebody has found a use for it meanwhile.
  const bool empty = ::lseek(buffered_.get(), before, SEEK_DATA) < 0 && errno == ENXIO;
  if (status.st_size != after || !empty) return 0;
  return ::ftruncate(buffered_.get(), before) == 0 ? 0 : -errno;
}

int BackingFile::read(std::uint64_t offset, std::span<std::byte> memory) noexcept {
  while (!memory.empty()) {
    const auto got =
        ::pread(fd_for(offset), memory.data(), memory.size(), to_off(file_offset(offset)));
    if (got < 0 && errno == EINTR) continue;
    if (got < 0) return -errno;
    const auto length = static_cast<std::size_t>(got);
    if (length == memory.size()) return 0;
    // Direct reads stop inside a block only at the end of the file.
    const bool inside_block = !in_tail(offset) && length % traits_.block_size != 0;
    if (length == 0 || inside_block) return note_shrunk();
    offset += length;
    memory = memory.subspan(length);
  }
  return 0;
}

int BackingFile::write_fully(std::uint64_t offset, std::span<const std::byte> memory,
                             int flags) noexcept {
  while (!memory.empty()) {
    // The kernel does not write to it.
    const iovec vector{const_cast<std::byte*>(memory.data()), memory.size()};
    const auto put = ::pwritev2(fd_for(offset), &vector, 1, to_off(file_offset(offset)), flags);
    if (put < 0 && errno == EINTR) continue;
    if (put < 0) return -errno;
    const auto length = static_cast<std::size_t>(put);
    if (length == memory.size()) return 0;
    const bool inside_block = !in_tail(offset) && length % traits_.block_size != 0;
    if (length == 0 || inside_block) return -EIO;
    offset += length;
    memory = memory.subspan(length);
  }
  return 0;
}

int BackingFile::write(std::uint64_t offset, std::span<const std::byte> memory,
                       bool durable) noexcept {
  if (!durable) return write_fully(offset, memory, 0);
  if (const int error = sync_error(); error != 0) return error;
  const auto ticket = overlap_.begin();
  const int error = write_durably(offset, memory);
  overlap_.end(ticket);
  return error != 0 ? error : sync_error();
}

int BackingFile::write_durably(std::uint64_t offset, std::span<const std::byte> memory) noexcept {
  const int error = write_fully(offset, memory, RWF_DSYNC);
  if (error == 0) return 0;
  // Was it the write that failed or the sync? A file system that allocates late may say ENOSPC in
  // either: the write alone tells.
  if (is_certain_refusal(error)) return error;
  if (is_refusal(error) && write_fully(offset, memory, 0) != 0) return error;
  return note_sync_failure(error);
}

int BackingFile::write_zeroes(std::uint64_t offset, std::uint64_t length) noexcept {
  while (length > 0) {
    const auto part =
        static_cast<std::size_t>(std::min<std::uint64_t>(length, written_zeroes.size()));
    if (const int error = write_fully(offset, std::span(written_zeroes).first(part), 0); error != 0)
      return error;
    offset += part;
    length -= part;
  }
  return 0;
}

std::uint64_t BackingFile::piece_length(std::uint64_t offset, std::uint64_t length,
                                        bool written) const noexcept {
  const std::uint64_t sector = traits_.sector_size;
  const std::uint64_t into_sector = file_offset(offset) % sector;
  if (into_sector != 0) return std::min(length, sector - into_sector);
  const auto most = traits_.block_device && !written ? device_piece_length_max : piece_length_max;
  // At multiples of it, for of a block that is cut in two neither half is freed.
  const auto piece = most - file_offset(offset) % most;
  if (length > piece) return piece;
  return length > sector ? length - length % sector : length;
}

// fallocate on the window, which never changes the file's size.
int BackingFile::allocate(int mode, std::uint64_t offset, std::uint64_t length) noexcept {
  while (::fallocate(changing_fd(), mode | FALLOC_FL_KEEP_SIZE, to_off(file_offset(offset)),
                     to_off(length)) != 0) {
    if (errno == ENOSYS) return -EOPNOTSUPP;
    if (errno != EINTR) return -errno;
  }
  return 0;
}

int BackingFile::discard(std::uint64_t offset, std::uint64_t length) noexcept {
  if (!can_discard_.load(std::memory_order_relaxed)) return 0;
  int error = 0;
  if (traits_.block_device) {
    const std::uint64_t sector = traits_.sector_size;
    const auto begin = (file_offset(offset) + sector - 1) / sector * sector;
    const auto end = (file_offset(offset) + length) / sector * sector;
    if (begin >= end) return 0;
    std::array<std::uint64_t, 2> range{begin, end - begin};
    error = ::ioctl(changing_fd(), BLKDISCARD, range.data()) == 0 ? 0 : -errno;
  } else {
    error = allocate(FALLOC_FL_PUNCH_HOLE, offset, length);
  }
  if (error != -EOPNOTSUPP) return error;
  can_discard_.store(false, std::memory_order_relaxed);
  return 0;
}

bool BackingFile::can_zero_fast(bool no_hole) const noexcept {
  if (can_zero_range_.load(std::memory_order_relaxed) && traits_.zero_range_is_fast) return true;
  return !no_hole && can_punch_.load(std::memory_order_relaxed);
}

int BackingFile::zero(std::uint64_t offset, std::uint64_t length, bool no_hole,
                      bool fast) noexcept {
  const std::uint64_t sector = traits_.sector_size;
  // Less than a sector, as piece_length() cuts it: as fast as anything.
  if (file_offset(offset) % sector != 0 || length % sector != 0)
    return write_zeroes(offset, length);

  if (!no_hole && can_punch_.load(std::memory_order_relaxed)) {
    const int error = allocate(FALLOC_FL_PUNCH_HOLE, offset, length);
    if (error != -EOPNOTSUPP) return error;
    can_punch_.store(false, std::memory_order_relaxed);
  }
  if (can_zero_range_.load(std::memory_order_relaxed) && (!fast || traits_.zero_range_is_fast)) {
    const int error = allocate(FALLOC_FL_ZERO_RANGE, offset, length);
    if (error != -EOPNOTSUPP) return error;
    can_zero_range_.store(false, std::memory_order_relaxed);
  }
  return fast ? -EOPNOTSUPP : write_zeroes(offset, length);
}

void BackingFile::prefetch(std::uint64_t offset, std::uint64_t length) noexcept {
  if (!in_tail(offset)) return;
  // A hint: its failure changes nothing.
  ::posix_fadvise(buffered_.get(), to_off(file_offset(offset)), to_off(length),
                  POSIX_FADV_WILLNEED);
}

std::int64_t BackingFile::extents(std::uint64_t offset, std::uint64_t length,
                                  std::span<Extent> extents) noexcept {
  const std::uint64_t end = offset + length;
  std::size_t count = 0;
  while (offset < end) {
    Extent extent;
    if (const int error = next_extent(offset, end, extent); error != 0) return error;
    offset += extent.length;
    if (count > 0 && extents[count - 1].hole == extent.hole) {
      extents[count - 1].length += extent.length;
    } else if (count < extents.size()) {
      extents[count++] = extent;
    } else {
      break;
    }
  }
  return static_cast<std::int64_t>(count);
}

// The run of one status at `offset`, cut at `end`. All that is not certainly a hole is called data.
int BackingFile::next_extent(std::uint64_t offset, std::uint64_t end, Extent& extent) noexcept {
  extent = Extent{.length = end - offset, .hole = false, .zero = false};
  if (traits_.block_device) return 0;
  const auto position = to_off(file_offset(offset));
  const auto length_until = [&](off_t where) {
    return std::min(static_cast<std::uint64_t>(where - position), end - offset);
  };

  // These move the file position, which nobody uses.
  const auto data = ::lseek(buffered_.get(), position, SEEK_DATA);
  if (data < 0 && errno != ENXIO) return errno == EINVAL ? 0 : -errno;
  if (data < 0) {
    // No data up to the end of the file; which zeroes only as far as that end still lies behind the
    // range.
    struct stat status {};
    if (::fstat(buffered_.get(), &status) != 0) return -errno;
    const bool hole = static_cast<std::uint64_t>(status.st_size) >= file_offset(end);
    extent.hole = extent.zero = hole;
    return 0;
  }
  if (data > position) {
    extent = Extent{.length = length_until(data), .hole = true, .zero = true};
    return 0;
  }
  const auto hole = ::lseek(buffered_.get(), position, SEEK_HOLE);
  if (hole > position) extent.length = length_until(hole);
  return 0;
}

}  // namespace engine
