#include "engine/file/file_device.h"

#include <fmt/format.h>

#include <utility>

#include "engine/file/aio_queue.h"
#include "engine/file/buffered_queue.h"

namespace engine {

namespace {

// Reads through the page cache run side by side only as far as there are threads.
constexpr std::size_t threads_max = 8;
constexpr std::size_t threads_resident = 4;

}  // namespace

FileDevice::FileDevice(std::unique_ptr<BackingFile> file, const Geometry& geometry,
                       std::uint32_t zero_alignment, bool resident)
    : file_(std::move(file)),
      geometry_(geometry),
      zero_alignment_(zero_alignment),
      pool_(threads_max) {
  if (resident) pool_.keep(threads_resident);
}

std::string FileDevice::store() const {
  const auto& [device, inode] = file_->traits().identity;
  return fmt::format("file {} {}", device, inode);
}

std::unique_ptr<IoQueue> FileDevice::make_queue(std::size_t depth_max) {
  // The page cache takes care of any alignment itself, and of two writers in one block, too.
  if (!is_direct()) return std::make_unique<BufferedQueue>(*file_, pool_);
  const Alignment alignment{.block_size = geometry_.block_size,
                            .zero_alignment = zero_alignment_,
                            .size = file_->traits().size,
                            .aligned_size = file_->traits().aligned_size};
  return std::make_unique<AligningQueue>(std::make_unique<AioQueue>(*file_, pool_, depth_max),
                                         alignment, range_lock_);
}

}  // namespace engine
