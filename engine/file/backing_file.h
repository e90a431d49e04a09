// A regular file or block device as all queues of one export share it: its descriptors, the window
// that is served, what its file system turned out to be able to, and the sync error that sticks.
// open_file() makes it; FileDevice owns it.
//
// Offsets are those of the window. The functions marked "blocks" are for the threads of the
// BlockingPool; they may run side by side. All of it may be called by any thread.
#pragma once

#include <sys/stat.h>

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <utility>

#include "engine/file/block_device_use.h"
#include "engine/file/flush_group.h"
#include "engine/file/sync_overlap.h"
#include "engine/file/window_lock.h"
#include "engine/file_descriptor.h"
#include "engine/io.h"
#include "engine/sync_errors.h"

namespace engine {

// Device and inode of a regular file; the number of a block device, whatever node stands for it.
using FileIdentity = std::pair<std::uint64_t, std::uint64_t>;
FileIdentity file_identity(const struct stat& status) noexcept;

// The findings of open_file(); they do not change.
struct FileTraits {
  std::string path;
  FileIdentity identity;
  std::uint64_t window_offset = 0;  // bytes
  std::uint64_t size = 0;           // bytes: the window's, to the byte
  // Below this offset all I/O is direct, from here on (the tail) buffered. Zero in buffered mode.
  // The two meet at a page boundary of the file: a dirty page holding bytes of both would one day
  // write old ones over what direct I/O has put on the disk.
  std::uint64_t aligned_size = 0;
  std::uint32_t block_size = 1;  // bytes: alignment of direct I/O
  std::uint32_t sector_size =
      1;  // bytes: what fallocate on a block device is limited to; 1 for files
  bool block_device = false;
  bool can_discard = false;
  bool can_punch = false;  // PUNCH_HOLE is worth trying
  bool zero_range_is_fast =
      true;             // false: a block device whose kernel driver would write the zeroes
  bool nowait = false;  // the direct descriptor takes RWF_NOWAIT
  std::uint64_t nowait_length_max =
      UINT64_MAX;  // bytes: longer direct I/O is always refused with it
};

// Keeps others off a file while it is served.
struct FileHold {
  FileDescriptor node;  // another node of a block device, which is locked in its place
  SharedUse use;        // of a block device
  std::unique_ptr<WindowLock> lock;
};

class BackingFile {
 public:
  // `direct` is empty in buffered mode.
  BackingFile(FileDescriptor direct, FileDescriptor buffered, FileTraits traits,
              std::function<void(std::string_view)> report, FileHold hold = {},
              std::shared_ptr<SyncError> sync_error = std::make_shared<SyncError>());

  const FileTraits& traits() const noexcept { return traits_; }
  const WindowLock* lock() const noexcept { return hold_.lock.get(); }
  bool has_tail() const noexcept { return traits_.aligned_size < traits_.size; }
  bool in_tail(std::uint64_t offset) const noexcept { return offset >= traits_.aligned_size; }
  int fd_for(std::uint64_t offset) const noexcept {
    return in_tail(offset) ? buffered_.get() : direct_.get();
  }
  std::uint64_t file_offset(std::uint64_t offset) const noexcept {
    return traits_.window_offset + offset;
  }

  // 0, or the -errno of the first sync that failed: what was in the caches then may be lost, and
  // the kernel tells that only once, so every later flush has to repeat it.
  int sync_error() const noexcept { return sync_error_->value(); }
  // Makes `error` (-errno) stick, reports it, and returns the one that sticks.
  int note_sync_failure(int error) noexcept;
  // For a durable write that failed with `error`: true when write(2) itself refuses so, before
  // anything is synced. ENOSPC and EDQUOT may come from the sync as well where a file system
  // allocates late; the other refusals never do.
  static bool is_refusal(int error) noexcept;

  // Reports once, for all queues, that one of them can have no context of asynchronous I/O.
  void note_no_context(std::string_view why) noexcept;

  // Reports once that a read inside the window met the end of the file; returns -EIO.
  int note_shrunk() noexcept;

  // Blocks. 0 or -errno.
  int sync() noexcept;
  // The flushes of all queues that wait for a sync.
  FlushGroup& flushes() noexcept { return flushes_; }

  // Blocks. As BlockDevice has them.
  int clear_sync_error() noexcept;
  int grow(std::uint64_t size) noexcept;
  int undo_grow() noexcept;
  bool is_at_path() const noexcept;
  int claim() noexcept;
  void commit() noexcept;

  // Blocks. 0 or -errno; the whole range or an error. Direct below aligned_size, which the range
  // must not straddle; there it is aligned in offset, length and memory.
  int read(std::uint64_t offset, std::span<std::byte> memory) noexcept;
  int write(std::uint64_t offset, std::span<const std::byte> memory, bool durable) noexcept;

  // How much of a long range discard() and zero() should be given at a time, since they hold locks
  // of the inode, and less where the bytes are `written`. Cut where the sectors of a block device
  // begin and end, too.
  std::uint64_t piece_length(std::uint64_t offset, std::uint64_t length,
                             bool written) const noexcept;

  // Blocks. 0 or -errno. Bytes that the file system cannot discard stay as they are.
  int discard(std::uint64_t offset, std::uint64_t length) noexcept;

  // False: zero() would have to write. Changes to false when a file system turns out to be unable.
  bool can_zero_fast(bool no_hole) const noexcept;
  // Blocks. 0 or -errno. `fast`: -EOPNOTSUPP, nothing changed, rather than write.
  int zero(std::uint64_t offset, std::uint64_t length, bool no_hole, bool fast) noexcept;

  // Blocks on the submission of the reads, not on their end. Does nothing for direct I/O.
  void prefetch(std::uint64_t offset, std::uint64_t length) noexcept;

  // Blocks. As Operation::block_status: the number of extents, or -errno.
  std::int64_t extents(std::uint64_t offset, std::uint64_t length,
                       std::span<Extent> extents) noexcept;

 private:
  // For what changes many blocks at once: any descriptor of a file does, since what is punched
  // leaves the page cache, too. Of a block device that is claimed the kernel takes it by the claim
  // only.
  int changing_fd() const noexcept {
    return hold_.use && hold_.use->claim ? hold_.use->claim.get() : buffered_.get();
  }
  int write_durably(std::uint64_t offset, std::span<const std::byte> memory) noexcept;
  int write_fully(std::uint64_t offset, std::span<const std::byte> memory, int flags) noexcept;
  int write_zeroes(std::uint64_t offset, std::uint64_t length) noexcept;
  int allocate(int mode, std::uint64_t offset, std::uint64_t length) noexcept;
  int next_extent(std::uint64_t offset, std::uint64_t end, Extent& extent) noexcept;

  const FileDescriptor direct_;
  const FileDescriptor buffered_;
  const FileHold hold_;
  const FileTraits traits_;
  const std::function<void(std::string_view)> report_;
  FlushGroup flushes_;
  SyncOverlap overlap_;  // of syncs through buffered_
  const std::shared_ptr<SyncError> sync_error_;
  // By grow(), of the file; equal: undo_grow() has nothing to do.
  off_t length_before_growing_ = 0;
  off_t length_after_growing_ = 0;
  std::atomic<bool> shrunk_{false};
  std::atomic<bool> without_context_{false};
  std::atomic<bool> can_discard_;
  std::atomic<bool> can_punch_;
  std::atomic<bool> can_zero_range_;
};

}  // namespace engine
