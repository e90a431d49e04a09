#include "server/server.h"

#include <fmt/format.h>

#include <algorithm>
#include <csignal>
#include <cstdlib>
#include <cstring>
#include <utility>

#include "engine/open_device.h"
#include "server/base/log.h"
#include "server/base/text.h"
#include "server/base/user_error.h"
#include "server/base/version.h"
#include "server/config/validate.h"
#include "server/control/control_commands.h"
#include "server/export/open_export.h"
#include "server/net/attach_commands.h"
#include "server/net/socket_options.h"

namespace server {
namespace {

// A change takes one at a time. Work on disks that hang, which is not waited for, keeps others.
constexpr std::size_t change_threads = 32;
constexpr int exit_status_sync_failed = 1;
// A worker that takes longer for a turn is not well.
constexpr auto http_status_deadline = std::chrono::milliseconds(2000);

std::string describe(const ContainerLimits& container) {
  if (container == ContainerLimits{}) return "";
  auto texts = std::vector<std::string>{};
  if (container.memory) texts.push_back(format_size(*container.memory) + " of memory");
  if (container.processors) texts.push_back(plural(*container.processors, "processor"));
  return fmt::format("; its control group allows {}", fmt::join(texts, ", "));
}

using Devices = std::vector<std::shared_ptr<engine::BlockDevice>>;

Devices devices_of(const ExportTable& table) {
  auto devices = Devices{};
  for (const auto& entry : table.all()) devices.push_back(entry->device());
  return devices;
}

// Nothing is missing before there are clients, and those for whom nothing is left are served, too.
void warn_of_shortage(const Devices& devices, const Bounds& bounds) {
  const auto direct = static_cast<std::size_t>(
      std::ranges::count(devices, engine::BlockDevice::Path::direct, &engine::BlockDevice::path));
  const auto shortage = engine::queue_shortage(direct * bounds.workers, bounds.queue_depth);
  if (!shortage.empty())
    log::warn(
        "clients on all {} exports at once would be too many: {}; until then, exports for which "
        "nothing is left are served by threads, which is slower",
        devices.size(), shortage);
}

}  // namespace

Server::Server(Config config, std::function<Config()> reread)
    : config_(std::move(config)),
      bounds_(derive_bounds(config_)),
      io_context_(1),
      change_pool_(change_threads),
      tls_(std::make_shared<TlsContext>(config_.tls)),
      exports_(bounds_, io_context_, change_pool_, workers_),
      signals_(io_context_, SIGTERM, SIGINT),
      listeners_(io_context_, std::string(default_listen_address),
                 [this](engine::FileDescriptor socket, ClientIdentity client) {
                   serve(std::move(socket), std::move(client));
                 }),
      gatherer_(io_context_, workers_),
      notify_(io_context_, [this](std::chrono::milliseconds deadline) { return status(deadline); }),
      reload_({io_context_, change_pool_, config_, *tls_, exports_, listeners_, notify_},
              std::move(reread)) {
  exports_.open(config_.exports);
  warn_of_shortage(devices_of(*exports_.table()), bounds_);
  make_workers();
  // In this order: a client that sees the server listen finds the control socket, too.
  if (!config_.control_socket.empty()) open_control_socket();
  if (!config_.stdio) listeners_.open(config_.listen);
  if (!config_.http_listen.empty()) http_sockets_ = open_listening_sockets(config_.http_listen);
  if (config_.wake_latency_us)
    wake_latency_.emplace(io_context_, std::chrono::microseconds(*config_.wake_latency_us),
                          [this] { return count_turns(); });
}

void Server::open_control_socket() {
  control_ =
      std::make_unique<ControlSocket>(io_context_, open_private_socket(config_.control_socket),
                                      [targets = control_targets()](std::string line) {
                                        return answer_control_request(targets, std::move(line));
                                      });
}

ControlTargets Server::control_targets() {
  return {.exports = exports_,
          .tls = config_.tls,
          .reload = [this](Departure departure) { return reload_.run(departure); },
          .status = [this](std::chrono::milliseconds deadline) { return status(deadline); },
          .stop = [this] { asio::post(io_context_, [this] { stop("drain"); }); }};
}

Server::~Server() = default;

void Server::make_workers() {
  for (auto index = 0U; index < bounds_.workers; ++index)
    exports_.connect(*workers_.emplace_back(
        std::make_unique<Worker>(bounds_, exports_.table(), workers_, tls_)));
}

void Server::announce() const {
  log::info("loopnbd {}, {}, {} for data in flight{}", version, plural(bounds_.workers, "worker"),
            format_size(bounds_.memory), describe(bounds_.container));
  for (const auto& entry : exports_.table()->all()) {
    const auto& device = *entry->device();
    const auto& partition = entry->config().partition;
    log::info("export \"{}\": {}{}{}, {} bytes ({}), {} I/O, block size {}{}", entry->name(),
              entry->config().path, partition.empty() ? "" : ", partition ", partition,
              device.size(), format_size(device.size()), device.mode(),
              device.geometry().block_size, device.geometry().read_only ? ", read-only" : "");
  }
  if (config_.tls.mode != proto::TlsMode::off)
    log::info("TLS is {}: {}", config_.tls.mode == proto::TlsMode::require ? "required" : "offered",
              describe(config_.tls));
  const auto addresses = listeners_.names();
  if (addresses.empty()) return;
  log::info("listening on {}; attach with", fmt::join(addresses, " and "));
  for (const auto& command : attach_commands(addresses, exports_.table()->all().front()->name(),
                                             config_.tls.mode == proto::TlsMode::require))
    log::info("  {}", command);
  for (const auto& address : addresses)
    if (address.starts_with("vsock:"))
      log::info("  a guest reaches it at port {} of its host", address.substr(6));
}

void Server::catch_signals() {
  signals_.async_wait([this](const boost::system::error_code& cancelled, int number) {
    if (cancelled) return;
    signals_.async_wait([](const boost::system::error_code& again_cancelled, int again) {
      if (again_cancelled) return;
      log::warn("a second {}: ending at once, without waiting for what is in flight",
                ::strsignal(again));
      std::_Exit(128 + again);
    });
    stop(::strsignal(number));
  });
  reload_.start();
}

int Server::run() {
  catch_signals();
  for (auto& worker : workers_)
    worker->on_idle([this] { asio::post(io_context_, [this] { stop_if_idle(); }); });
  for (auto& worker : workers_) worker->start();
  if (config_.stdio) {
    announce();
    workers_.front()->serve(engine::FileDescriptor(::dup(STDIN_FILENO)),
                            engine::FileDescriptor(::dup(STDOUT_FILENO)),
                            identify_standard_input());
  } else {
    listeners_.start();
    announce();
  }
  serve_http();
  if (wake_latency_) wake_latency_->start();
  notify_.ready();
  io_context_.run();
  while (exports_.changing()) {
    io_context_.restart();
    io_context_.run_one();
  }
  end_all(workers_);
  // Nothing is in flight any more, and disks may hang: from here on a signal ends the process
  // itself.
  signals_.clear();
  const auto synced = exports_.sync_all();
  engine::process_ends();
  log::info("ended");
  return synced ? 0 : exit_status_sync_failed;
}

void Server::serve_http() {
  if (http_sockets_.empty()) return;
  http_.emplace(io_context_, std::exchange(http_sockets_, {}),
                [this] { return status(http_status_deadline); });
  for (const auto& name : http_->names())
    log::info("/metrics, /status, /healthz and /readyz are served on {}", name);
}

void Server::serve(engine::FileDescriptor socket, ClientIdentity client) {
  auto total = std::size_t{0};
  for (const auto& worker : workers_) total += worker->connection_count();
  if (total >= bounds_.connections_max) {
    if (limit_log_.admit())
      log::warn("{}: refused: {} connections are served already (max_connections)", client.name,
                total);
    return;
  }
  const auto least_loaded = std::ranges::min_element(
      workers_, {}, [](const auto& worker) { return worker->connection_count(); });
  if (bounds_.send_buffer != 0) limit_send_buffer(socket.get(), bounds_.send_buffer);
  (*least_loaded)->serve(std::move(socket), std::move(client));
}

void Server::stop(const char* reason) {
  log::info("{}: finishing what is in flight, then ending; once more to end at once", reason);
  stopping_ = true;
  notify_.stopping();
  reload_.end();
  listeners_.close();
  exports_.end();
  for (auto& worker : workers_) worker->drain();
  stop_if_idle();
}

void Server::stop_if_idle() {
  const auto idle = std::ranges::all_of(
      workers_, [](const auto& worker) { return worker->connection_count() == 0; });
  // The client of --stdio is the only one there will be.
  if (idle && (stopping_ || config_.stdio)) io_context_.stop();
}

std::uint64_t Server::count_turns() const noexcept {
  auto turns = std::uint64_t{0};
  for (const auto& worker : workers_) turns += worker->metrics().turns.value();
  return turns;
}

Awaitable<ServerStatus> Server::status(std::chrono::milliseconds deadline) {
  exports_.look_at_files();
  const auto table = exports_.table();
  auto exports = table;
  auto status = co_await gatherer_.gather(std::move(exports), deadline);
  for (auto index = std::size_t{0}; index < status.exports.size(); ++index)
    status.exports[index].paused = exports_.is_paused(*table->all()[index]);
  status.version = version;
  status.start_time_seconds =
      std::chrono::duration_cast<std::chrono::seconds>(start_time_.time_since_epoch()).count();
  status.uptime = std::chrono::duration_cast<std::chrono::milliseconds>(Clock::now() - start_);
  status.listening = !listeners_.empty();
  status.draining = stopping_;
  status.listen = listeners_.names();
  status.connections_max = bounds_.connections_max;
  co_return status;
}

void check(const Config& config) {
  validate(config);
  const auto tls = TlsContext(config.tls);
  auto devices = Devices{};
  for (const auto& entry : config.exports) devices.push_back(open_export(entry));
  warn_of_shortage(devices, derive_bounds(config));
  if (config.wake_latency_us) open_wake_latency_device();
}

}  // namespace server
