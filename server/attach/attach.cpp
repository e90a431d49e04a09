#include "server/attach/attach.h"

#include <fmt/format.h>

#include <algorithm>
#include <boost/json.hpp>
#include <cerrno>
#include <chrono>
#include <csignal>
#include <iostream>
#include <stdexcept>
#include <string>
#include <thread>
#include <utility>
#include <variant>
#include <vector>

#include "server/attach/attached_device.h"
#include "server/attach/device_claim.h"
#include "server/attach/file_attachment.h"
#include "server/attach/nbd_devices.h"
#include "server/attach/remote_address.h"
#include "server/attach/remote_attachment.h"
#include "server/base/log.h"
#include "server/process/daemon.h"
#include "server/process/memory_pressure.h"

namespace server {
namespace {

// How long the process behind a device may sync its file.
constexpr auto end_deadline = std::chrono::seconds(60);
constexpr auto end_pause = std::chrono::milliseconds(20);

int run_attach(const Attach& options) {
  auto daemon = Daemon(options.foreground);
  if (options.foreground) {
    log::start(options.log_level);
  } else {
    log::start_in_background(options.log_level);
  }
  std::signal(SIGPIPE, SIG_IGN);
  for (const auto& failure : prepare_for_memory_pressure()) {
    if (options.swap) throw NbdError(EPERM, fmt::format("{}; --swap needs that", failure));
    log::warn("{}; writing to the device may stall when memory runs out", failure);
  }
  if (options.swap) prepare_for_swap();
  if (auto address = parse_remote_address(options.source))
    return RemoteAttachment(options, daemon, *std::move(address)).run();
  return FileAttachment(options, daemon).run();
}

// True: the process behind the device, which detaches by itself when it is told to end, has ended.
bool wait_for_end(std::uint32_t index) {
  const auto deadline = std::chrono::steady_clock::now() + end_deadline;
  while (DeviceClaim::owner(index)) {
    if (std::chrono::steady_clock::now() > deadline) return false;
    std::this_thread::sleep_for(end_pause);
  }
  return true;
}

int run_detach(const Detach& options) {
  const auto index = options.device;
  const auto path = nbd_device_path(index);
  const auto devices = list_nbd_devices();
  const auto attached = std::ranges::any_of(
      devices, [&](const auto& device) { return device.index == index && device.connected; });
  if (!attached) throw NbdError(ENODEV, fmt::format("{} is not attached", path));
  auto netlink = NbdNetlink();
  // The reason against it is said here, and not in the log of the process.
  auto device = quiesce_nbd_device(index);
  // The process disconnects the device itself, so that it does not take that for links to replace.
  // The file may be copied next: wait until it is synced. A process of another namespace has no
  // number.
  if (const auto owner = DeviceClaim::owner(index); owner && *owner > 0) {
    device.reset();
    if (::kill(*owner, SIGTERM) == 0 && wait_for_end(index)) return 0;
    if (nbd_device_may_be_connected(index)) device = quiesce_nbd_device(index);
  }
  if (device) netlink.disconnect(index);
  device.reset();
  if (!wait_for_end(index))
    throw std::runtime_error(fmt::format("{} is detached, but its process is still writing", path));
  return 0;
}

std::string devices_as_json(const std::vector<NbdDevice>& devices) {
  auto list = boost::json::array();
  for (const auto& device : devices) {
    auto entry = boost::json::object();
    entry["device"] = nbd_device_path(device.index);
    if (device.backend) entry["backend"] = *device.backend;
    entry["size_bytes"] = device.size;
    entry["block_size_bytes"] = device.block_size;
    entry["read_only"] = device.read_only;
    // Of another program's devices the kernel does not say whose they are.
    if (const auto owner = DeviceClaim::owner(device.index)) entry["pid"] = *owner;
    list.push_back(std::move(entry));
  }
  return boost::json::serialize(list);
}

int run_devices(const ListDevices& options) {
  auto devices = list_nbd_devices();
  std::erase_if(devices, [](const auto& device) { return !device.connected; });
  if (options.json) {
    std::cout << devices_as_json(devices) << '\n';
    return 0;
  }
  for (const auto& device : devices) {
    const auto owner = DeviceClaim::owner(device.index);
    std::cout << fmt::format("{}  {}  {} bytes{}{}\n", nbd_device_path(device.index),
                             device.backend.value_or("(unknown)"), device.size,
                             device.read_only ? ", read-only" : "",
                             owner ? fmt::format(", process {}", *owner) : "");
  }
  return 0;
}

}  // namespace

int run(const AttachCommand& command) {
  if (const auto* const attach = std::get_if<Attach>(&command)) return run_attach(*attach);
  if (const auto* const detach = std::get_if<Detach>(&command)) return run_detach(*detach);
  return run_devices(std::get<ListDevices>(command));
}

}  // namespace server
