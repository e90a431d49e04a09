#include "server/attach/file_attachment.h"

#include <fmt/format.h>
#include <sys/socket.h>
#include <sys/stat.h>

#include <algorithm>
#include <cerrno>
#include <cstdlib>
#include <cstring>
#include <stdexcept>
#include <system_error>
#include <thread>
#include <utility>
#include <vector>

#include "engine/shell_word.h"
#include "server/base/log.h"
#include "server/base/user_error.h"
#include "server/export/open_export.h"

namespace server {
namespace {

constexpr int exit_status_failed = 1;
// Requests and replies on their way between the kernel and us; a large request at once.
constexpr int socket_buffer_size = 2 << 20;  // bytes
// In flight at once; as resident memory nine times as much.
constexpr std::uint64_t memory_per_worker = 6U << 20;  // bytes
constexpr auto retry_delay_min = std::chrono::milliseconds(20);
constexpr auto retry_delay_max = std::chrono::milliseconds(1000);
// How long a process that was killed may still work on its last requests.
constexpr auto predecessor_deadline = std::chrono::seconds(30);
constexpr auto predecessor_pause = std::chrono::milliseconds(50);

// Writing into a hole makes the file system allocate, which needs memory.
void refuse_holes(const std::string& path) {
  struct stat status {};
  if (::stat(path.c_str(), &status) != 0 || !S_ISREG(status.st_mode)) return;
  constexpr auto unit = 512;  // bytes, of st_blocks
  if (status.st_blocks * unit >= status.st_size) return;
  throw UserError(
      fmt::format("cannot attach {} for swap: it has holes; fill all of it with zeroes by: dd "
                  "if=/dev/zero {} bs=1M count={} iflag=count_bytes conv=notrunc",
                  path, engine::shell_word("of=" + path), status.st_size));
}

std::string absolute(const std::string& path) {
  const auto resolved =
      std::unique_ptr<char, decltype(&std::free)>(::realpath(path.c_str(), nullptr), &std::free);
  return resolved ? resolved.get() : path;  // why it is missing, opening it says
}

Bounds bounds_of(std::uint32_t connections) {
  auto config = Config{};
  const auto cores = std::max(1U, std::thread::hardware_concurrency());
  config.workers = std::min(connections, cores);
  config.connections_max = connections;
  config.memory = memory_per_worker * config.workers;
  auto bounds = derive_bounds(config);
  bounds.memory_resident = true;
  return bounds;
}

}  // namespace

FileAttachment::FileAttachment(const Attach& options, Daemon& daemon)
    : options_(options),
      path_(absolute(options.source)),
      device_(options, path_),
      loop_(device_, daemon),
      bounds_(bounds_of(device_.connections())),
      retry_(loop_.io_context()),
      retry_delay_(retry_delay_min) {
  if (options_.swap) refuse_holes(path_);
  open_export();
  make_workers();
  attach();
}

void FileAttachment::open_export() {
  auto config = ExportConfig{};
  config.name = device_.path();
  config.path = path_;
  config.read_only = options_.read_only;
  if (options_.swap) config.direct_io = engine::DirectIo::on;
  export_ = std::make_shared<Export>(config, open_device(config), bounds_);
  const auto size = export_->device()->size();
  if (size < options_.block_size)
    throw UserError(
        fmt::format("cannot attach {}: it has {} bytes, and a device needs at least "
                    "a block of {}",
                    path_, size, options_.block_size));
  if (size % options_.block_size != 0)
    log::warn("{}: its last {} bytes are no whole block of {} and not part of the device", path_,
              size % options_.block_size, options_.block_size);
  if (device_.taken_over() && size / options_.block_size * options_.block_size < device_.size())
    throw UserError(
        fmt::format("cannot take {} over: {} has shrunk to {} bytes, and the device "
                    "has {}; restore the file or detach the device",
                    device_.path(), path_, size, device_.size()));
}

void FileAttachment::make_workers() {
  const auto table = std::make_shared<const ExportTable>(std::vector{export_});
  for (auto index = 0U; index < bounds_.workers; ++index) {
    auto& worker = *workers_.emplace_back(std::make_unique<Worker>(bounds_, table, workers_));
    worker.add_export(export_);
    worker.on_idle([this] { asio::post(loop_.io_context(), [this] { restore_links(); }); });
  }
  for (auto& worker : workers_) worker->start();
}

std::shared_ptr<engine::BlockDevice> FileAttachment::open_device(const ExportConfig& config) {
  auto context = engine::OpenContext{};
  context.resident = true;
  context.report = [this](std::string_view event) { log::warn("{}: {}", path_, event); };
  const auto deadline = std::chrono::steady_clock::now() + predecessor_deadline;
  for (;;) {
    try {
      return open_export_device(config, context);
    } catch (const engine::OpenError&) {
      // The process whose place we take may still hold the lock: see the head of the header.
      if (!device_.taken_over() || std::chrono::steady_clock::now() > deadline) throw;
      std::this_thread::sleep_for(predecessor_pause);
    }
  }
}

void FileAttachment::attach() {
  if (device_.taken_over()) {
    log::info("{}: taking over from a process that has died", device_.path());
    restore_links();
    if (loop_.ended())
      throw std::runtime_error(
          fmt::format("{} was detached in this moment; attach again", device_.path()));
    return;
  }
  auto kernel_ends = std::vector<engine::FileDescriptor>{};
  auto sockets = std::vector<int>{};
  for (auto count = 0U; count < device_.connections(); ++count)
    sockets.push_back(kernel_ends.emplace_back(new_link()).get());
  const auto description = export_->describe();
  const auto size = description.size / options_.block_size * options_.block_size;
  device_.connect(size, description.transmission_flags, sockets);
  device_.prepare_for_use();
}

// Begins to serve one end of a socket pair and returns the other one, for the kernel.
engine::FileDescriptor FileAttachment::new_link() {
  int ends[2];
  if (::socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, ends) != 0)
    throw std::system_error(errno, std::generic_category(), "cannot make a socket pair");
  auto ours = engine::FileDescriptor(ends[0]);
  auto kernels = engine::FileDescriptor(ends[1]);
  for (const auto end : ends)
    ::setsockopt(end, SOL_SOCKET, SO_SNDBUFFORCE, &socket_buffer_size, sizeof socket_buffer_size);
  auto negotiated = proto::Negotiated{};
  negotiated.export_description = export_->describe();
  workers_[next_worker_++ % workers_.size()]->serve(
      std::move(ours),
      begin_transmission(ClientIdentity{.name = "the kernel"}, std::move(negotiated)));
  return kernels;
}

int FileAttachment::run() {
  log::info("{}: {}, {} bytes, {} I/O{}", device_.path(), path_, export_->device()->size(),
            export_->device()->mode(), options_.read_only ? ", read-only" : "");
  loop_.run([this] { restore_links(); });
  return finish();
}

// Gives the kernel a new link for each that has ended: it gives one up that does not answer in
// time. If it has no place for it (it does not know yet that the old one is dead), it drops the new
// one and that ends, too: hence the retries. The new link is served when nothing of the old one is
// in flight any more (Worker).
void FileAttachment::restore_links() noexcept {
  auto alive = std::size_t{0};
  for (const auto& worker : workers_) alive += worker->connection_count();
  if (loop_.ended()) return;
  if (alive >= device_.connections()) {
    retry_delay_ = retry_delay_min;
    return;
  }
  try {
    auto kernel_ends = std::vector<engine::FileDescriptor>{};
    auto sockets = std::vector<int>{};
    for (auto count = alive; count < device_.connections(); ++count)
      sockets.push_back(kernel_ends.emplace_back(new_link()).get());
    if (!device_.replace_sockets(sockets)) return loop_.end();
  } catch (const std::exception& error) {
    log::error("{}: {}; trying again", device_.path(), error.what());
  }
  retry_.expires_after(retry_delay_);
  retry_delay_ = std::min(2 * retry_delay_, retry_delay_max);
  retry_.async_wait([this](const boost::system::error_code& cancelled) {
    if (!cancelled) restore_links();
  });
}

int FileAttachment::finish() {
  for (auto& worker : workers_) worker->drain();
  end_all(workers_);
  if (!options_.read_only) {
    if (const auto result = export_->device()->sync(); result != 0) {
      log::error("{}: the last sync failed: {}; data that was acknowledged may be lost", path_,
                 std::strerror(-result));
      return exit_status_failed;
    }
  }
  log::info("{}: detached", device_.path());
  return 0;
}

}  // namespace server
