// The locks by which programs keep each other off a disk image: open-file-description locks (OFD),
// which belong to the open file, as all its descriptors share it.
//
// Among loopnbds it is a lock of the window that is served: shared for readers, exclusive for
// writers. qemu and its tools never lock what they use. They have shared locks of single bytes that
// say what they do (100 and what follows) and what they suffer no other to do (200 and what
// follows), and ask whether anybody has a lock that contradicts. So those bytes are left out of
// windows, and each file that is locked has such locks, too: readers share with readers, writers
// with nobody.
//
// Any thread; nothing here waits.
#pragma once

#include <cstdint>

namespace engine {

enum class LockMode : std::uint8_t { none, reading, writing };

// Bytes of a file. Length 0: as far as the file may ever reach.
struct LockRange {
  std::uint64_t offset = 0;
  std::uint64_t length = 0;
};

enum class LockAnswer : std::uint8_t {
  locked,
  held_by_window,  // another loopnbd, or another export of this one, has bytes of the range
  held_by_qemu,    // qemu, whatever window it is
  failed,          // the file system refuses locks; errno says why
};

// Changes the lock that the open file of `fd` has on `range`; with any answer but `locked` it is
// `from` again. A lock for writing wants a file that is open for writing.
LockAnswer change_lock(int fd, const LockRange& range, LockMode from, LockMode to) noexcept;

}  // namespace engine
