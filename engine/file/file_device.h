// A regular file or block device as a BlockDevice, direct or buffered. open_file() makes it.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <string>

#include "engine/align/aligning_queue.h"
#include "engine/align/range_lock.h"
#include "engine/block_device.h"
#include "engine/blocking_pool.h"
#include "engine/file/backing_file.h"

namespace engine {

class FileDevice final : public BlockDevice {
 public:
  // `geometry.block_size` is 1 in buffered mode, else that of direct I/O. `zero_alignment` as in
  // Alignment, `resident` as in OpenContext.
  FileDevice(std::unique_ptr<BackingFile> file, const Geometry& geometry,
             std::uint32_t zero_alignment, bool resident);

  const Geometry& geometry() const noexcept override { return geometry_; }
  std::uint64_t size() const noexcept override { return file_->traits().size; }
  Path path() const noexcept override { return is_direct() ? Path::direct : Path::buffered; }
  std::string store() const override;
  std::uint64_t window_offset() const noexcept override { return file_->traits().window_offset; }
  int grow(std::uint64_t size) noexcept override { return file_->grow(size); }
  int undo_grow() noexcept override { return file_->undo_grow(); }
  bool is_at_path() const noexcept override { return file_->is_at_path(); }
  int claim() noexcept override { return file_->claim(); }
  void commit() noexcept override { file_->commit(); }
  std::unique_ptr<IoQueue> make_queue(std::size_t depth_max) override;
  int sync() noexcept override { return file_->sync(); }
  int sync_error() const noexcept override { return file_->sync_error(); }
  int clear_sync_error() noexcept override { return file_->clear_sync_error(); }
  const BackingFile& file() const noexcept { return *file_; }

 private:
  bool is_direct() const noexcept { return geometry_.block_size > 1; }

  const std::unique_ptr<BackingFile> file_;
  const Geometry geometry_;
  const std::uint32_t zero_alignment_;
  RangeLock range_lock_;
  BlockingPool pool_;  // its threads use what is above
};

}  // namespace engine
