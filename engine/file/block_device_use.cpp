#include "engine/file/block_device_use.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <sys/sysmacros.h>

#include <cerrno>
#include <fstream>
#include <map>
#include <utility>

#include "engine/mutex.h"

namespace engine {

namespace {

class Uses {
 public:
  SharedUse use(const std::string& path, dev_t device, bool read_only) {
    const MutexLock lock(mutex_);
    std::erase_if(uses_, [](const auto& entry) { return entry.second.expired(); });
    auto& known = uses_[{device, read_only}];
    if (auto use = known.lock()) return use;
    auto use = std::make_shared<BlockDeviceUse>();
    use->device = device;
    use->path = path;
    if (const auto other = uses_.find({device, !read_only}); other != uses_.end())
      if (const auto first = other->second.lock()) use->path = first->path;
    if (!read_only) {
      use->claim = FileDescriptor(::open(path.c_str(), O_RDWR | O_EXCL | O_CLOEXEC));
      if (!use->claim) return nullptr;
    }
    known = use;
    return use;
  }

  SharedUse related(dev_t device, bool read_only) {
    const auto disk = disk_of(device);
    const MutexLock lock(mutex_);
    for (const auto& [key, entry] : uses_) {
      const auto& [used, only_read] = key;
      if (only_read && read_only) continue;
      if (used == device || (used != disk && disk_of(used) != device)) continue;
      if (auto use = entry.lock()) return use;
    }
    return nullptr;
  }

 private:
  // The disk that it is a partition of; itself when it is none.
  static dev_t disk_of(dev_t device) {
    const auto folder = fmt::format("/sys/dev/block/{}:{}", major(device), minor(device));
    if (!std::ifstream(folder + "/partition")) return device;
    std::ifstream file(folder + "/../dev");
    unsigned of_major = 0;
    unsigned of_minor = 0;
    char colon = 0;
    return file >> of_major >> colon >> of_minor ? makedev(of_major, of_minor) : device;
  }

  Mutex mutex_;
  std::map<std::pair<dev_t, bool>, std::weak_ptr<const BlockDeviceUse>> uses_
      LOOPNBD_GUARDED_BY(mutex_);
};

Uses& uses_of_this_process() {
  static Uses all;
  return all;
}

}  // namespace

SharedUse use_block_device(const std::string& path, dev_t device, bool read_only) {
  return uses_of_this_process().use(path, device, read_only);
}

SharedUse related_use(dev_t device, bool read_only) {
  return uses_of_this_process().related(device, read_only);
}

}  // namespace engine
