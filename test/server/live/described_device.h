// A device of which only the description matters: for changes that compare two of them.
#pragma once

#include <cerrno>
#include <cstdint>
#include <memory>
#include <stdexcept>
#include <string>

#include "engine/block_device.h"

namespace test {

struct DeviceDescription {
  std::uint64_t size = 8192;  // bytes
  bool read_only = true;
  engine::BlockDevice::Path path = engine::BlockDevice::Path::direct;
  std::string store = "a file";
  std::uint64_t window_offset = 0;  // bytes
};

class DescribedDevice final : public engine::BlockDevice {
 public:
  explicit DescribedDevice(const DeviceDescription& description = {}) : description_(description) {
    geometry_.read_only = description.read_only;
  }

  const engine::Geometry& geometry() const noexcept override { return geometry_; }
  std::uint64_t size() const noexcept override { return description_.size; }
  Path path() const noexcept override { return description_.path; }
  std::string store() const override { return description_.store; }
  std::uint64_t window_offset() const noexcept override { return description_.window_offset; }
  int grow(std::uint64_t) noexcept override { return -ENOTSUP; }
  std::unique_ptr<engine::IoQueue> make_queue(std::size_t) override {
    throw std::logic_error("a described device does nothing");
  }
  int sync() noexcept override { return 0; }

 private:
  const DeviceDescription description_;
  engine::Geometry geometry_;
};

}  // namespace test
