// A device whose queues are FaultyQueues: for the tests of whatever sits above an engine.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <string>
#include <utility>

#include "engine/block_device.h"
#include "test/double/faulty_queue.h"

namespace engine {

class FaultyDevice final : public BlockDevice {
 public:
  // `faults` outlives the device.
  FaultyDevice(std::shared_ptr<BlockDevice> inner, Faults& faults)
      : inner_(std::move(inner)), faults_(faults) {}

  const Geometry& geometry() const noexcept override { return inner_->geometry(); }
  std::uint64_t size() const noexcept override { return inner_->size(); }
  Path path() const noexcept override { return inner_->path(); }
  std::string store() const override { return inner_->store(); }
  std::uint64_t window_offset() const noexcept override { return inner_->window_offset(); }
  int grow(std::uint64_t size) noexcept override { return inner_->grow(size); }
  std::unique_ptr<IoQueue> make_queue(std::size_t depth_max) override {
    return std::make_unique<FaultyQueue>(inner_->make_queue(depth_max),
                                         inner_->geometry().block_size, faults_);
  }
  int sync() noexcept override {
    const int error = faults_.sync_error();
    return error != 0 ? -error : inner_->sync();
  }
  int sync_error() const noexcept override { return -faults_.sync_error(); }

 private:
  const std::shared_ptr<BlockDevice> inner_;
  Faults& faults_;
};

}  // namespace engine
