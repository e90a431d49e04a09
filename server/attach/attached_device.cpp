#include "server/attach/attached_device.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <fmt/ranges.h>
#include <linux/blkpg.h>
#include <linux/fs.h>
#include <sys/ioctl.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <utility>

#include "server/attach/nbd_devices.h"
#include "server/base/log.h"

namespace server {
namespace {

[[noreturn]] void refuse_busy(std::uint32_t index) {
  const auto device = nbd_device_path(index);
  if (const auto owner = DeviceClaim::owner(index))
    throw NbdError(EBUSY,
                   fmt::format("{} is in use by process {}; loopnbd devices shows what is behind "
                               "it. Name another device or none",
                               device, *owner));
  throw NbdError(EBUSY, fmt::format("{} is in use by another program; nbd-client -d {} would end "
                                    "that. Name another device or none",
                                    device, device));
}

// The kernel forgets the partitions of a device that is disconnected only when the next one takes
// its place.
void forget_partitions(int device, std::uint32_t index) noexcept {
  for (const auto number : nbd_device_partitions(index)) {
    auto partition = blkpg_partition{};
    partition.pno = number;
    auto request = blkpg_ioctl_arg{
        .op = BLKPG_DEL_PARTITION, .flags = 0, .datalen = sizeof partition, .data = &partition};
    // One that somebody has open stays; reading it will fail.
    ::ioctl(device, BLKPG, &request);
  }
}

}  // namespace

AttachedDevice::AttachedDevice(const Attach& options, std::string backend)
    : options_(options), backend_(std::move(backend)), connections_(options.connections) {
  if (!take_over()) claim_free();
}

std::string AttachedDevice::path() const { return nbd_device_path(index_); }

bool AttachedDevice::claim(std::uint32_t index) {
  auto claim = DeviceClaim::take(index);
  if (!claim) return false;
  claim_ = std::move(claim);
  index_ = index;
  return true;
}

bool AttachedDevice::take_over() {
  for (const auto& device : list_nbd_devices()) {
    if (!device.connected || device.backend != backend_) continue;
    if (options_.device && *options_.device != device.index) continue;
    if (const auto owner = DeviceClaim::owner(device.index)) {
      if (options_.read_only && device.read_only) continue;  // several may read
      throw NbdError(EBUSY, fmt::format("{} is attached already: it is {}, by process {}", backend_,
                                        nbd_device_path(device.index), *owner));
    }
    if (!claim(device.index)) continue;
    if (device.read_only != options_.read_only)
      throw NbdError(EBUSY,
                     fmt::format("{} was attached as {} {}; attach it in the same way to take it "
                                 "over, or detach it first",
                                 backend_, nbd_device_path(device.index),
                                 device.read_only ? "read-only" : "for writing"));
    taken_over_ = true;
    size_ = device.size;
    connections_ = claim_->recorded_connections().value_or(options_.connections);
    claim_->record(connections_);
    return true;
  }
  return false;
}

void AttachedDevice::claim_free() {
  const auto devices = list_nbd_devices();
  const auto named = options_.device;
  const auto is_connected = [&](std::uint32_t index) {
    return std::ranges::any_of(
        devices, [&](const auto& device) { return device.index == index && device.connected; });
  };
  if (named && (is_connected(*named) || !claim(*named))) refuse_busy(*named);
  for (auto index = std::uint32_t{0}; !named; ++index)
    if (!is_connected(index) && claim(index)) break;
  is_new_ =
      std::ranges::none_of(devices, [&](const auto& device) { return device.index == index_; });
}

void AttachedDevice::connect(std::uint64_t size, std::uint16_t transmission_flags,
                             std::span<const int> sockets) {
  auto settings = NbdDeviceSettings{};
  settings.size = size;
  settings.block_size = options_.block_size;
  settings.transmission_flags = transmission_flags;
  settings.timeout_s = options_.timeout_s;
  settings.dead_timeout_s = options_.dead_timeout_s;
  settings.backend = backend_;
  for (;;) {
    // The record must be true whenever the device is connected.
    claim_->record(connections_);
    settings.index = index_;
    settings.destroyed_on_disconnect = is_new_;
    try {
      return netlink_.connect(settings, sockets);
    } catch (const NbdError& error) {
      if (error.error() != EBUSY || options_.device) throw;
      log::info("{} was taken by somebody else in this moment", path());
      claim_free();
    }
  }
}

bool AttachedDevice::replace_sockets(std::span<const int> sockets,
                                     std::optional<std::uint64_t> size) {
  // Of a device that somebody has ended the driver complains in its log.
  if (!nbd_device_may_be_connected(index_)) return false;
  return netlink_.replace_sockets(index_, backend_, sockets, size);
}

void AttachedDevice::prepare_for_use() const noexcept {
  choose_scheduler();
  scan_partitions();
}

// Older kernels (6.12; since about 6.14 they have commit 8337b029f788) give a request whose sending
// was interrupted back to the scheduler, which may send it again under another tag; the reply to
// the first one ends the connection then. Without a scheduler the request keeps its tag.
void AttachedDevice::choose_scheduler() const noexcept {
  if (options_.keep_scheduler) return;
  const auto before = nbd_device_scheduler(index_);
  if (!before || *before == "none") return;
  if (const auto error = set_nbd_device_scheduler(index_, "none"); error != 0)
    return log::warn(
        "{}: the I/O scheduler stays {}: {}; with it, older kernels lose connections under load. "
        "Change it by: echo none > /sys/block/nbd{}/queue/scheduler",
        path(), *before, std::strerror(error), index_);
  log::info("{}: I/O scheduler none instead of {} (--keep-scheduler keeps that)", path(), *before);
}

void AttachedDevice::scan_partitions() const noexcept {
  // The first open reads the table; the driver has announced a change of size. A device that
  // cannot be read has no partitions, and says so itself when it is read.
  const auto device = engine::FileDescriptor(::open(path().c_str(), O_RDONLY | O_CLOEXEC));
  if (device) ::ioctl(device.get(), BLKRRPART);
}

engine::FileDescriptor quiesce_nbd_device(std::uint32_t index) {
  const auto path = nbd_device_path(index);
  // Exclusively, as mounting does: whoever uses the device or a partition stands in the way.
  auto device = engine::FileDescriptor(::open(path.c_str(), O_RDONLY | O_EXCL | O_CLOEXEC));
  if (!device) {
    const auto error = errno;
    const auto uses = nbd_device_uses(index);
    throw NbdError(error, fmt::format("cannot detach {}: {}{}{}", path, std::strerror(error),
                                      uses.empty() ? "" : ": ", fmt::join(uses, ", ")));
  }
  if (::fsync(device.get()) != 0) {
    const auto error = errno;
    throw NbdError(error,
                   fmt::format("cannot write out what is cached of {}: {}; it stays attached", path,
                               std::strerror(error)));
  }
  forget_partitions(device.get(), index);
  return device;
}

}  // namespace server
