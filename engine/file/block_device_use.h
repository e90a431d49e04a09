// The block devices that this process serves. A lock belongs to the inode of a device's node, and
// there may be several nodes of one device (every container has its own); partitions have nodes of
// their own, too. So a device that is written is claimed from the kernel as well (O_EXCL), as file
// systems, RAID and LVM do: among all programs that claim it, for it, its disk or its partitions,
// there is only one. Readers claim nothing, because they may serve what is mounted.
//
// Discarding and zeroing go through the claim's descriptor: the kernel claims the device for them
// otherwise.
//
// Within the process, all exports of a device share one claim, and take the locks of their windows
// at one node. Any thread.
#pragma once

#include <sys/types.h>

#include <memory>
#include <string>

#include "engine/file_descriptor.h"

namespace engine {

struct BlockDeviceUse {
  dev_t device = 0;
  std::string path;      // the node that was opened first
  FileDescriptor claim;  // empty: only readers share this use
};

using SharedUse = std::shared_ptr<const BlockDeviceUse>;

// The use of the device at `path`: one that exists in this process, else a new one. Nothing when
// others have claimed the device (errno is EBUSY) or it cannot be opened (errno says why).
SharedUse use_block_device(const std::string& path, dev_t device, bool read_only);

// A use in this process of the disk that `device` is a partition of, or of a partition of it;
// nothing when there is none, or only readers are there and `read_only`.
SharedUse related_use(dev_t device, bool read_only);

}  // namespace engine
