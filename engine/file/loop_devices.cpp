#include "engine/file/loop_devices.h"

#include <fcntl.h>
#include <linux/loop.h>
#include <sys/ioctl.h>
#include <sys/stat.h>

#include <filesystem>
#include <fstream>
#include <system_error>

#include "engine/file_descriptor.h"

namespace engine {

namespace {

std::string line_of(const std::filesystem::path& path) {
  std::ifstream file(path);
  std::string line;
  std::getline(file, line);
  return line;
}

// By the path that the kernel knows the file by; by the loop device itself where that leads nowhere
// (a file that was removed, or is seen from another container).
bool is_over(const std::string& backing_path, const std::string& loop, const FileIdentity& file) {
  struct stat status {};
  if (::stat(backing_path.c_str(), &status) == 0) return file_identity(status) == file;
  const FileDescriptor device(::open(loop.c_str(), O_RDONLY | O_CLOEXEC | O_NONBLOCK));
  loop_info64 info{};
  return device && ::ioctl(device.get(), LOOP_GET_STATUS64, &info) == 0 &&
         FileIdentity{info.lo_device, info.lo_inode} == file;
}

}  // namespace

std::optional<LoopDeviceOver> find_loop_device(const FileIdentity& file) {
  std::optional<LoopDeviceOver> found;
  std::error_code error;  // no sysfs: nothing is found
  for (const auto& entry : std::filesystem::directory_iterator("/sys/block", error)) {
    const auto name = entry.path().filename().string();
    if (!name.starts_with("loop")) continue;
    const auto backing_path = line_of(entry.path() / "loop" / "backing_file");
    if (backing_path.empty() || !is_over(backing_path, "/dev/" + name, file)) continue;
    const bool read_only = line_of(entry.path() / "ro") == "1";
    if (!found || !read_only) found = LoopDeviceOver{"/dev/" + name, read_only};
  }
  return found;
}

}  // namespace engine
