#include "engine/file/open_file.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <linux/fs.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <bit>
#include <cerrno>
#include <cstdint>
#include <cstring>
#include <filesystem>
#include <memory>
#include <stdexcept>
#include <utility>

#include "engine/blocking_pool.h"
#include "engine/file/aio_queue.h"
#include "engine/file/backing_file.h"
#include "engine/file/block_device_use.h"
#include "engine/file/file_device.h"
#include "engine/file/file_lock.h"
#include "engine/file/file_probe.h"
#include "engine/file/loop_devices.h"
#include "engine/file/window_lock.h"
#include "engine/file_descriptor.h"
#include "engine/rounding.h"
#include "engine/shell_word.h"
#include "engine/sync_errors.h"

namespace engine {

namespace {

constexpr std::uint32_t preferred_size_max = 64U << 10;  // bytes

std::uint64_t page_size() { return static_cast<std::uint64_t>(::sysconf(_SC_PAGESIZE)); }

template <class... Arguments>
[[noreturn]] void refuse_option(std::string_view option, const FileSpec& spec,
                                fmt::format_string<Arguments...> text, Arguments&&... arguments) {
  throw OpenError(option, "cannot serve " + spec.path + ": " +
                              fmt::format(text, std::forward<Arguments>(arguments)...));
}

template <class... Arguments>
[[noreturn]] void refuse(const FileSpec& spec, fmt::format_string<Arguments...> text,
                         Arguments&&... arguments) {
  refuse_option("path", spec, text, std::forward<Arguments>(arguments)...);
}

// Commands stand at the end, where they are easy to copy.
std::string remedy_of_missing(const FileSpec& spec) {
  if (("/" + spec.path).find("/~/") != std::string::npos)
    return "; \"~\" is no folder here: only a shell puts your home folder in its place. Write the "
           "whole path";
  struct stat status {};
  if (::lstat(spec.path.c_str(), &status) == 0)
    return fmt::format("; it is a symbolic link that leads nowhere. Where to, says: readlink {}",
                       shell_path(spec.path));
  if (spec.path.starts_with("/dev/")) return "; check the path. The disks there are, shows: lsblk";
  const auto folder = std::filesystem::path(spec.path).parent_path().string();
  if (!folder.empty() && ::stat(folder.c_str(), &status) != 0)
    return fmt::format("; check the path, or make the folder with: mkdir -p {}",
                       shell_path(folder));
  return fmt::format("; check the path, or make an image with: truncate -s 10G {}",
                     shell_path(spec.path));
}

std::string remedy_of_refusal(const FileSpec& spec) {
  struct statx status {};
  const bool known = ::statx(AT_FDCWD, spec.path.c_str(), 0, STATX_TYPE, &status) == 0;
  const auto attributes = known ? status.stx_attributes & status.stx_attributes_mask : 0;
  const auto attribute = [&](std::string_view what, char letter) {
    return fmt::format(
        "; it is {} (lsattr shows the letter {}): serve it read-only, or take that from it with: "
        "chattr -{} {}",
        what, letter, letter, shell_path(spec.path));
  };
  if (!spec.read_only && (attributes & STATX_ATTR_IMMUTABLE) != 0)
    return attribute("immutable", 'i');
  if (!spec.read_only && (attributes & STATX_ATTR_APPEND) != 0)
    return attribute("only to be appended to", 'a');
  const auto user = fmt::format("let the user with the number {}", ::geteuid());
  return spec.read_only ? fmt::format("; {} read it, and pass all folders on its way", user)
                        : fmt::format(
                              "; {} read and write it, and pass all folders on its way, or "
                              "serve it read-only",
                              user);
}

std::string remedy(int error, const FileSpec& spec) {
  switch (error) {
    case ENOENT:
      return remedy_of_missing(spec);
    case EACCES:
    case EPERM:
      return remedy_of_refusal(spec);
    case EROFS:
      return "; serve it read-only";
    case EBUSY:
      return "; it, its disk or a partition of it is in use: mounted, part of a RAID or a volume "
             "group, or served for writing by another loopnbd. Stop that first, or serve it "
             "read-only";
    default:
      return "";
  }
}

// Before it is opened: opening a fifo would wait for somebody at its other end.
struct stat check_type(const FileSpec& spec) {
  struct stat status {};
  if (::stat(spec.path.c_str(), &status) != 0)
    refuse(spec, "{}{}", std::strerror(errno), remedy(errno, spec));
  if (S_ISDIR(status.st_mode))
    refuse(spec, "it is a directory; name a disk image or a block device in it");
  if (!S_ISREG(status.st_mode) && !S_ISBLK(status.st_mode))
    refuse(spec, "it is neither a regular file nor a block device, and only those hold a disk");
  return status;
}

FileDescriptor open_path(const std::string& path, bool read_only, int flags) {
  return FileDescriptor(::open(path.c_str(), (read_only ? O_RDONLY : O_RDWR) | O_CLOEXEC | flags));
}

struct stat status_of(int fd, const FileSpec& spec) {
  struct stat status {};
  if (::fstat(fd, &status) != 0) refuse(spec, "{}", std::strerror(errno));
  return status;
}

std::uint64_t file_size(int fd, const struct stat& status, const FileSpec& spec) {
  if (S_ISREG(status.st_mode)) return static_cast<std::uint64_t>(status.st_size);
  std::uint64_t size = 0;
  if (::ioctl(fd, BLKGETSIZE64, &size) != 0)
    refuse(spec, "cannot ask the device for its size: {}", std::strerror(errno));
  return size;
}

// The size of the window.
std::uint64_t window_size(std::uint64_t file_size, bool block_device, const FileSpec& spec) {
  if (file_size == 0 && block_device)
    refuse(spec, "the block device has no size: no medium is in it, or nothing is attached to it");
  if (file_size == 0)
    refuse(spec, "it is empty; give it a size first: truncate -s 10G {}", shell_path(spec.path));
  if (spec.offset >= file_size)
    refuse_option("offset", spec, "offset {} is not inside its {} bytes", spec.offset, file_size);
  const auto behind = file_size - spec.offset;
  if (!spec.size) return behind;
  if (*spec.size == 0) refuse_option("size", spec, "size 0 leaves nothing to serve");
  if (*spec.size <= behind) return *spec.size;
  const auto larger = block_device || *spec.size > INT64_MAX - spec.offset
                          ? ""
                          : fmt::format(", or the file larger: truncate -s {} {}",
                                        spec.offset + *spec.size, shell_path(spec.path));
  refuse_option("size", spec, "size {} at offset {} reaches beyond its {} bytes; make it smaller{}",
                *spec.size, spec.offset, file_size, larger);
}

struct Direct {
  FileDescriptor file;  // empty: buffered
  std::uint32_t block_size = 1;
};

// Why direct I/O is not possible, or nothing and `direct` filled in.
std::string try_direct(const FileSpec& spec, const struct stat& status, std::uint64_t file_size,
                       Direct& direct) {
  if (const int error = aio_unavailable(); error != 0)
    return fmt::format("this system has no asynchronous I/O (io_setup: {})", std::strerror(-error));
  auto file = open_path(spec.path, spec.read_only, O_DIRECT);
  if (!file) return fmt::format("its file system refuses direct I/O ({})", std::strerror(errno));
  const auto same = status_of(file.get(), spec);
  if (same.st_dev != status.st_dev || same.st_ino != status.st_ino)
    refuse(spec, "it was replaced while it was being opened; try again");
  auto block_size = probe_direct_alignment(file.get(), file_size);
  if (!block_size) return "direct I/O does not work on it";
  int sector_size = 0;
  if (S_ISBLK(status.st_mode) && ::ioctl(file.get(), BLKSSZGET, &sector_size) == 0)
    block_size = std::max(*block_size, static_cast<std::uint32_t>(sector_size));
  if (spec.offset % *block_size != 0) {
    return fmt::format("direct I/O on it wants an offset that is a multiple of {}, and {} is not",
                       *block_size, spec.offset);
  }
  direct = Direct{std::move(file), *block_size};
  return "";
}

Direct choose_mode(const FileSpec& spec, const OpenContext& context, const struct stat& status,
                   std::uint64_t file_size) {
  Direct direct;
  if (spec.direct_io == DirectIo::off) return direct;
  const auto reason = try_direct(spec, status, file_size, direct);
  if (reason.empty()) return direct;
  if (spec.direct_io == DirectIo::on)
    refuse(spec, "{}; set direct_io to \"auto\" or \"off\" to serve it through the page cache",
           reason);
  context.report(fmt::format("{}: {}; serving it through the page cache", spec.path, reason));
  return direct;
}

void ask_block_device(FileTraits& traits, int fd, dev_t device) {
  int sector_size = 512;
  if (::ioctl(fd, BLKSSZGET, &sector_size) == 0)
    traits.sector_size = static_cast<std::uint32_t>(sector_size);
  traits.can_discard = queue_attribute(device, "discard_max_bytes").value_or(0) > 0;
  const bool zeroes = queue_attribute(device, "write_zeroes_max_bytes").value_or(0) > 0;
  traits.can_punch = zeroes;
  traits.zero_range_is_fast = zeroes;
  // An operation that has to be split into several requests of the device is refused with
  // RWF_NOWAIT. Memory of many pages takes as many segments in the worst case.
  const auto sectors = queue_attribute(device, "max_sectors_kb").value_or(64) << 10;
  const auto segments = queue_attribute(device, "max_segments").value_or(16) * page_size();
  traits.nowait_length_max = std::min(sectors, segments);
}

std::uint32_t preferred_size(const Direct& direct, const struct stat& status) {
  const auto file_block = std::bit_ceil(static_cast<std::uint32_t>(status.st_blksize));
  return std::max({4096U, direct.block_size, std::min(file_block, preferred_size_max)});
}

// Where direct I/O ends: with the last block when the window consists of whole ones, else at a page
// of the cache or at what the file system may cache as one.
std::uint64_t aligned_size(const Direct& direct, const struct stat& status, std::uint64_t offset,
                           std::uint64_t size) {
  if (!direct.file) return 0;
  if (size % direct.block_size == 0) return size;
  const auto alignment = std::max<std::uint64_t>(page_size(), preferred_size(direct, status));
  const auto end = (offset + size) / alignment * alignment;
  return end > offset ? end - offset : 0;
}

// The part of the traits that the lock of the window depends on.
FileTraits lay_out(const FileSpec& spec, const Direct& direct, const struct stat& status,
                   std::uint64_t size) {
  FileTraits traits;
  traits.path = spec.path;
  traits.identity = file_identity(status);
  traits.window_offset = spec.offset;
  traits.size = size;
  traits.aligned_size = aligned_size(direct, status, spec.offset, size);
  traits.block_size = direct.block_size;
  traits.block_device = S_ISBLK(status.st_mode);
  return traits;
}

// Only once the lock is held: before that, others may be at work on the file.
void probe(FileTraits& traits, const FileSpec& spec, const Direct& direct, int buffered_fd,
           const struct stat& status) {
  if (direct.file) traits.nowait = probe_nowait(direct.file.get(), direct.block_size);
  if (traits.block_device) {
    ask_block_device(traits, buffered_fd, status.st_rdev);
  } else if (!spec.read_only) {
    traits.can_punch = traits.can_discard = probe_punch_hole(buffered_fd);
  }
}

Geometry make_geometry(const FileSpec& spec, const Direct& direct, const FileTraits& traits,
                       const struct stat& status) {
  const auto disk = traits.block_device ? status.st_rdev : status.st_dev;
  return Geometry{.block_size = direct.block_size,
                  .preferred_size = preferred_size(direct, status),
                  .read_only = spec.read_only,
                  .rotational = queue_attribute(disk, "rotational").value_or(0) != 0,
                  .can_discard = traits.can_discard && !spec.read_only,
                  .can_zero_fast = traits.can_punch && !spec.read_only,
                  .can_report_extents = !traits.block_device};
}

LockMode lock_mode(bool read_only) { return read_only ? LockMode::reading : LockMode::writing; }

// The locks of devices that give way and serve the same file.
std::vector<const WindowLock*> locks_of_predecessors(const FileTraits& traits,
                                                     const OpenContext& context) {
  std::vector<const WindowLock*> locks;
  for (const auto& entry : context.predecessors) {
    // Only devices of this backend have such a lock, and nobody else needs to know of it.
    const auto* const device = dynamic_cast<const FileDevice*>(entry.get());
    if (device == nullptr || device->file().traits().identity != traits.identity) continue;
    if (device->file().lock() != nullptr) locks.push_back(device->file().lock());
  }
  return locks;
}

[[noreturn]] void refuse_locked(const FileSpec& spec, LockAnswer answer, int error) {
  switch (answer) {
    case LockAnswer::held_by_qemu:
      if (spec.read_only)
        refuse(spec,
               "it is locked: a virtual machine or a tool of qemu has it open for writing, and "
               "clients would see it change under them. Stop that first, or set lock = false "
               "(--no-lock) to serve it all the same");
      refuse(
          spec,
          "it is locked: a virtual machine or a tool of qemu has it open. Stop that first, serve "
          "it read-only if that reads only, or set lock = false (--no-lock) if you are sure");
    case LockAnswer::held_by_window:
      refuse(spec,
             "it is locked: another loopnbd, a virtual machine or another export of this server "
             "has it. Stop that first, serve it read-only in both, or set lock = false (--no-lock) "
             "if you are sure");
    case LockAnswer::locked:
    case LockAnswer::failed:
      break;
  }
  refuse(spec, "cannot lock it: {}; set lock = false (--no-lock) to serve it without",
         std::strerror(error));
}

// Keeps others off the window. Bytes that are written through the page cache are locked by whole
// pages, so that no second window has direct I/O in one of them. A window without a size reaches as
// far as the file ever may.
std::unique_ptr<WindowLock> lock_window(int fd, const FileTraits& traits, const FileSpec& spec,
                                        const OpenContext& context) {
  const auto page = page_size();
  const bool direct = traits.aligned_size > 0;
  const bool tail = traits.aligned_size < traits.size;
  const auto begin = direct ? spec.offset : spec.offset / page * page;
  const auto end = spec.offset + traits.size;
  const auto length = spec.size ? (tail ? round_up(end, page) : end) - begin : 0;
  auto lock = std::make_unique<WindowLock>(
      [report = context.report, path = spec.path](std::string_view event) {
        report(fmt::format("{}: {}", path, event));
      });
  const auto answer = lock->take(fd, {.offset = begin, .length = length}, lock_mode(spec.read_only),
                                 locks_of_predecessors(traits, context));
  if (answer != LockAnswer::locked) refuse_locked(spec, answer, errno);
  return lock;
}

// Names the file for as long as it exists: an inode's number is used again.
std::string sync_error_key(int fd, const FileIdentity& identity) {
  struct statx status {};
  const bool born = ::statx(fd, "", AT_EMPTY_PATH, STATX_BTIME, &status) == 0 &&
                    (status.stx_mask & STATX_BTIME) != 0;
  const auto birth = born ? status.stx_btime : statx_timestamp{};
  return fmt::format("file {} {} {}.{}", identity.first, identity.second, birth.tv_sec,
                     birth.tv_nsec);
}

std::shared_ptr<SyncError> find_sync_error(int fd, const FileTraits& traits,
                                           const OpenContext& context) {
  if (context.sync_errors == nullptr) return std::make_shared<SyncError>();
  auto found = context.sync_errors->of(sync_error_key(fd, traits.identity));
  if (const int error = found->value(); error != 0)
    context.report(
        fmt::format("{}: an earlier sync failed ({}), and nobody has cleared the error: flushes "
                    "fail. Check the disk and the image, then: loopnbd ctl clear-sync-error",
                    traits.path, std::strerror(-error)));
  return found;
}

// Opening a block device for writing succeeds although it is read-only (blockdev --setro, losetup
// -r, a write-protected disk); then every write fails.
void check_writable(const FileSpec& spec, int fd) {
  int read_only = 0;
  if (::ioctl(fd, BLKROGET, &read_only) == 0 && read_only != 0)
    refuse(
        spec,
        "the block device is read-only; serve it read-only, or make it writable, by what has made "
        "it read-only or with: blockdev --setrw {}",
        shell_path(spec.path));
}

// A mounted file system and a client would overwrite each other's blocks.
SharedUse use_device(const FileSpec& spec, dev_t device) {
  if (const auto other = related_use(device, spec.read_only))
    refuse(
        spec,
        "this server has {} in use, which is its disk or a partition of it. Serve all partitions "
        "of the disk by its path and `partition`, or set lock = false (--no-lock) if you are "
        "sure",
        other->path);
  auto use = use_block_device(spec.path, device, spec.read_only);
  if (!use) refuse(spec, "{}{}", std::strerror(errno), remedy(errno, spec));
  return use;
}

// A loop device takes no lock of its file, and what is mounted from it would not know what clients
// write.
void check_loop_devices(const FileSpec& spec, const FileIdentity& file,
                        const OpenContext& context) {
  const auto loop = find_loop_device(file);
  if (!loop) return;
  if (!spec.read_only)
    refuse(spec,
           "the loop device {0} has it, so that two would write it, or one would not see what the "
           "other writes. Unmount what is mounted from that and detach it (losetup -d {0}), or set "
           "lock = false (--no-lock) if you are sure",
           loop->path);
  if (loop->read_only) return;
  context.report(
      fmt::format("{0}: the loop device {1} can write it: clients may see it change under them. "
                  "Unmount what is mounted from that and detach it (losetup -d {1})",
                  spec.path, loop->path));
}

// Keeps others off the file while it is served.
FileHold hold_file(int fd, const FileTraits& traits, const FileSpec& spec,
                   const OpenContext& context, dev_t device) {
  FileHold hold;
  int lock_at = fd;
  if (traits.block_device) {
    hold.use = use_device(spec, device);
    if (hold.use->path != spec.path) {
      auto node = open_path(hold.use->path, spec.read_only, O_NONBLOCK);
      struct stat status {};
      if (node && ::fstat(node.get(), &status) == 0 && file_identity(status) == traits.identity)
        hold.node = std::move(node);
    }
    if (hold.node) lock_at = hold.node.get();
  }
  check_loop_devices(spec, traits.identity, context);
  hold.lock = lock_window(lock_at, traits, spec, context);
  return hold;
}

}  // namespace

std::shared_ptr<BlockDevice> open_file(const FileSpec& spec, const OpenContext& context) {
  const bool block_device = S_ISBLK(check_type(spec).st_mode);
  auto buffered = open_path(spec.path, spec.read_only, 0);
  if (!buffered) refuse(spec, "{}{}", std::strerror(errno), remedy(errno, spec));
  if (block_device && !spec.read_only) check_writable(spec, buffered.get());
  const auto status = status_of(buffered.get(), spec);

  const auto whole = file_size(buffered.get(), status, spec);
  const auto size = window_size(whole, block_device, spec);
  auto direct = choose_mode(spec, context, status, whole);
  auto traits = lay_out(spec, direct, status, size);
  FileHold hold;
  if (spec.lock) {
    hold = hold_file(buffered.get(), traits, spec, context, status.st_rdev);
    // The one that had the lock until now may have changed it.
    if (file_size(buffered.get(), status_of(buffered.get(), spec), spec) != whole)
      refuse(spec, "its size is changing; try again when that has come to its end");
  }
  probe(traits, spec, direct, buffered.get(), status);
  // Only the tail is read through the cache then: pages read ahead would cost more than they could
  // ever give.
  if (direct.file) ::posix_fadvise(buffered.get(), 0, 0, POSIX_FADV_RANDOM);

  const auto geometry = make_geometry(spec, direct, traits, status);
  auto sync_error = find_sync_error(buffered.get(), traits, context);
  auto file =
      std::make_unique<BackingFile>(std::move(direct.file), std::move(buffered), std::move(traits),
                                    context.report, std::move(hold), std::move(sync_error));
  // Zeroing less than the file system's blocks is no cheaper than writing them: hence the preferred
  // size.
  return std::make_shared<FileDevice>(std::move(file), geometry, geometry.preferred_size,
                                      context.resident);
}

}  // namespace engine
