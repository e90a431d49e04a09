// Questions to the kernel about an opened file or block device, asked once when it is opened. None
// of them changes what the file holds.
#pragma once

#include <sys/stat.h>

#include <cstdint>
#include <optional>

namespace engine {

// The number of bytes that offsets, lengths and memory of direct I/O on `direct_fd` (opened with
// O_DIRECT) must be multiples of; nothing when direct I/O does not work on it. `size`: of the file,
// in bytes, > 0.
std::optional<std::uint32_t> probe_direct_alignment(int direct_fd, std::uint64_t size);

// The same where the kernel does not say it: by trial reads. A read of a hole proves nothing, since
// nobody checks its alignment; where only such reads are possible it is taken to be 4096 at least.
std::optional<std::uint32_t> probe_alignment_by_reading(int direct_fd, std::uint64_t size);

// Whether direct reads and writes may carry RWF_NOWAIT. `alignment` as above.
bool probe_nowait(int direct_fd, std::uint32_t alignment);

// Whether PUNCH_HOLE works: asked for the last bytes that a file of the file system can have at
// all, where nobody has anything to lose. The bytes behind the file's present end would not do:
// somebody may make it longer, and write there, at this moment. Moves the file position.
bool probe_punch_hole(int writable_fd);

// A number from the request queue of a block device (sysfs, "queue/NAME"), of the whole disk if
// `device` is a partition; nothing when there is none, as for file systems that are not on one
// device.
std::optional<std::uint64_t> queue_attribute(dev_t device, const char* name);

}  // namespace engine
