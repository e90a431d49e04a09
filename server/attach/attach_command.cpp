#include "server/attach/attach_command.h"

#include <fmt/format.h>

#include <CLI/CLI.hpp>

#include "server/attach/nbd_devices.h"
#include "server/base/log_names.h"
#include "server/base/user_error.h"

namespace server {
namespace {

// The kernel's driver and servers bear so many easily.
constexpr std::uint32_t device_connections_max = 16;
constexpr std::uint32_t timeout_max_s = 24 * 3600;

std::uint32_t device_index(const std::string& name) {
  if (const auto index = parse_nbd_device(name)) return *index;
  throw UserError(fmt::format("\"{}\" is no NBD device; expected a name like /dev/nbd0", name));
}

}  // namespace

AttachCommandLine::AttachCommandLine(CLI::App& app)
    : attach_app_(*app.add_subcommand(
          "attach", "Make a file a local block device, /dev/nbdN, until it is detached")),
      detach_app_(*app.add_subcommand("detach", "Write out and end what attach began")),
      devices_app_(*app.add_subcommand("devices", "Show the NBD devices and what is behind them")) {
  add_attach();
  detach_app_.add_option("DEVICE", detach_device_, "/dev/nbdN")->required();
  devices_app_.add_flag("--json", devices_.json, "As a JSON array");
}

void AttachCommandLine::add_attach() {
  auto& app = attach_app_;
  app.add_option("FILE", attach_.source, "An image or block device")->required();
  app.add_option("--device", attach_device_, "/dev/nbdN; default: the first that is free");
  app.add_option("--connections", attach_.connections,
                 "Between the kernel and this program. With several, the kernel sends a request "
                 "that takes longer than the timeout again on another one")
      ->check(CLI::Range(1U, device_connections_max))
      ->capture_default_str();
  app.add_flag("--read-only", attach_.read_only, "Refuse writes");
  app.add_option("--block-size", attach_.block_size, "The device's logical block size, in bytes")
      ->check(CLI::IsMember({512U, 4096U}))
      ->capture_default_str();
  app.add_option("--timeout", attach_.timeout_s,
                 "Seconds until the kernel gives up a connection that does not answer and sends "
                 "its requests again. Default: after 30 s, and only when the connection was "
                 "replaced or there are others")
      ->check(CLI::Range(1U, timeout_max_s));
  app.add_option("--dead-timeout", attach_.dead_timeout_s,
                 "Seconds that requests wait for a connection when there is none: so long may a "
                 "restart take")
      ->check(CLI::Range(1U, timeout_max_s))
      ->capture_default_str();
  app.add_flag("--keep-scheduler", attach_.keep_scheduler,
               "Keep the I/O scheduler that the kernel has chosen. Default: none, with which no "
               "kernel loses connections under load, and which is faster");
  app.add_flag(
      "--swap", attach_.swap,
      "For a swap device: refuse to start when memory cannot be locked, the file has holes or "
      "cannot be written past the page cache, or the kernel keeps too little memory in reserve");
  app.add_flag("--foreground", attach_.foreground,
               "Stay until SIGTERM or SIGINT; tells systemd when it is ready");
  app.add_option("--log-level", attach_.log_level, "Log what is at least so important")
      ->check(CLI::IsMember(std::vector<std::string>(log::levels().begin(), log::levels().end())))
      ->capture_default_str();
}

std::optional<AttachCommand> AttachCommandLine::parsed() const {
  if (attach_app_.parsed()) {
    auto attach = attach_;
    if (!attach_device_.empty()) attach.device = device_index(attach_device_);
    return attach;
  }
  if (detach_app_.parsed()) return Detach{device_index(detach_device_)};
  if (devices_app_.parsed()) return devices_;
  return std::nullopt;
}

}  // namespace server
