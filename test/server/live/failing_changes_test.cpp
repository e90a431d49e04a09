// Every change of a running server, with every system call in it failing once: what is refused
// leaves exports, locks, open files, lengths of files, limits and TLS as they were, and clients
// read what they have read before.
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <boost/asio/use_future.hpp>
#include <catch2/catch.hpp>
#include <csignal>
#include <filesystem>
#include <fstream>
#include <functional>
#include <list>
#include <memory>
#include <sstream>
#include <string>
#include <vector>

#include "engine/file/file_lock.h"
#include "server/live/direct_io_change.h"
#include "server/live/file_swap.h"
#include "server/live/live_exports.h"
#include "server/live/resize.h"
#include "server/reload.h"
#include "test/support/failing_calls.h"
#include "test/support/temporary_file.h"
#include "test/support/test_client.h"

using server::Awaitable;
using server::Config;
using server::ExportConfig;
using test::FailingCall;
using test::TemporaryFile;

namespace {

constexpr std::size_t size = 65536;  // bytes

ExportConfig config_of(const std::string& name, const TemporaryFile& file) {
  auto config = ExportConfig{};
  config.name = name;
  config.path = file.path();
  return config;
}

// The lock that others meet.
std::string lock_of(const std::string& path) {
  using engine::LockMode;
  const auto file = engine::FileDescriptor(::open(path.c_str(), O_RDWR | O_CLOEXEC));
  for (const auto mode : {LockMode::writing, LockMode::reading})
    if (engine::change_lock(file.get(), {}, LockMode::none, mode) == engine::LockAnswer::locked)
      return mode == LockMode::writing ? "unlocked" : "locked for reading";
  return "locked for writing";
}

std::vector<std::string> open_files() {
  auto names = std::vector<std::string>{};
  for (const auto& entry : std::filesystem::directory_iterator("/proc/self/fd")) {
    auto failure = std::error_code{};
    const auto target = std::filesystem::read_symlink(entry.path(), failure);
    // This folder itself, and the pipe that Asio has for signals while somebody waits for one.
    const auto passing =
        target.string().find("/fd") != std::string::npos || target.string().starts_with("pipe:");
    if (!failure && !passing) names.push_back(target.string());
  }
  std::ranges::sort(names);
  return names;
}

// A server with a writable and a read-only export, a client on each, and files for changes.
struct Server {
  Server() {
    std::signal(SIGPIPE, SIG_IGN);
    spdlog::set_level(spdlog::level::off);
    config.workers = 1;
    config.listen = {};
    config.exports = {config_of("disk", disk), config_of("golden", golden)};
    config.exports[1].read_only = true;
    config.exports[1].direct_io = engine::DirectIo::off;  // which is closed sooner
    config.exports[0].limits.read_bytes = 1U << 30;
    config.tls.mode = proto::TlsMode::allow;
    config.tls.psk_file = keys.path();
    bounds = server::derive_bounds(config);
    bounds.queue_depth = 4;
    tls = std::make_shared<server::TlsContext>(config.tls);
    exports.open(config.exports);
    auto& worker = *workers.emplace_back(
        std::make_unique<server::Worker>(bounds, exports.table(), workers, tls));
    exports.connect(worker);
    worker.start();
    for (const auto* const name : {"disk", "golden"}) connect(name);
    // The pool has its threads from now on.
    auto nothing = [this]() -> Awaitable<void> { co_await exports.limit("golden", none, none); };
    run(nothing);
  }
  ~Server() {
    for (auto& client : clients) client.close();
    server::end_all(workers);
  }

  test::Client& connect(const char* name) {
    int ends[2];
    REQUIRE(::socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, ends) == 0);
    workers.front()->serve(engine::FileDescriptor(ends[0]), {.name = "a test", .host = "a test"});
    auto& client = clients.emplace_back(engine::FileDescriptor(ends[1]));
    client.go(name);
    return client;
  }

  void run(const std::function<Awaitable<void>()>& change) {
    auto result = server::asio::co_spawn(io_context, change(), server::asio::use_future);
    while (result.wait_for(std::chrono::seconds(0)) != std::future_status::ready) {
      io_context.restart();
      REQUIRE(io_context.run_one_for(std::chrono::seconds(10)) > 0);
    }
    result.get();
  }

  static std::string what_it_reads(test::Client& client) {
    try {
      const auto read = client.call(proto::Command::read, 0, 512);
      if (read.error != 0) return "is refused";
      return std::string("reads ") + static_cast<char>(read.data[0]);
    } catch (const std::exception& failure) {
      return failure.what();
    }
  }

  std::string describe() {
    auto out = std::ostringstream();
    for (const auto& entry : exports.table()->all())
      out << entry->name() << ' ' << entry->path() << ' ' << entry->device()->size() << ' '
          << entry->device()->mode() << ' ' << entry->device()->geometry().read_only << ' '
          << entry->limiter().all().read_bytes << '\n';
    for (const auto* const file : {&disk, &golden, &other, &keys})
      out << file->path() << ' ' << std::filesystem::file_size(file->path()) << ' '
          << lock_of(file->path()) << '\n';
    const auto credentials = tls->credentials();
    out << "TLS " << (credentials ? static_cast<int>(credentials->mode()) : -1) << '\n';
    for (const auto& name : listeners.names()) out << "listens on " << name << '\n';
    for (auto& client : clients) out << what_it_reads(client) << '\n';
    for (const auto& name : open_files()) out << name << '\n';
    return out.str();
  }

  const server::RateLimits none;
  const TemporaryFile disk = TemporaryFile(std::string(size, 'd'));
  const TemporaryFile golden = TemporaryFile(std::string(size, 'g'));
  const TemporaryFile other = TemporaryFile(std::string(size, 'o'));
  const TemporaryFile keys = TemporaryFile("alice:00112233445566778899aabbccddeeff\n");
  Config config;
  Config next;  // for a reload
  server::Bounds bounds;
  server::asio::io_context io_context{1};
  engine::BlockingPool pool{1};
  std::shared_ptr<server::TlsContext> tls;
  server::Workers workers;
  server::LiveExports exports{bounds, io_context, pool, workers};
  server::Listeners listeners{io_context, "127.0.0.1:0", [](auto&&...) {}};
  server::Notify notify{io_context, {}};
  std::list<test::Client> clients;
};

Awaitable<void> add(Server& server) {
  auto edit = server::LiveExports::Edit([&server](server::LiveExports::Configs configs) {
    configs.push_back(config_of("other", server.other));
    return configs;
  });
  auto terms = server::LiveExports::Terms();
  co_await server.exports.change(std::move(edit), std::move(terms));
}

Awaitable<void> change_device(Server& server, std::string name,
                              std::shared_ptr<server::DeviceChange> change) {
  co_await server.exports.change_device(std::move(name), std::move(change));
}

Awaitable<void> reload(Server& server, server::Departure departure) {
  const auto targets = server::Reload::Targets{.io_context = server.io_context,
                                               .pool = server.pool,
                                               .config = server.config,
                                               .tls = *server.tls,
                                               .exports = server.exports,
                                               .listeners = server.listeners,
                                               .notify = server.notify};
  // Not a SIGHUP is caught for it, since the object is gone before one can come.
  auto reloading = server::Reload(targets, [&server] { return server.next; });
  co_await reloading.run(departure);
}

// Both exports the other way round, one more, stricter TLS, and another socket.
Awaitable<void> reload_all(Server& server) {
  server.next = server.config;
  server.next.exports[0].read_only = true;
  server.next.exports[1].read_only = false;
  server.next.exports[0].limits.read_bytes = 1;
  server.next.exports.push_back(config_of("other", server.other));
  server.next.tls.mode = proto::TlsMode::require;
  server.next.listen = {"127.0.0.1:0"};
  co_await reload(server, server::Departure::drain);
}

// Refused, whatever succeeds: there are clients.
Awaitable<void> reload_with_clients(Server& server) {
  server.next = server.config;
  server.next.exports[0].read_only = true;
  server.next.exports[1].read_only = false;
  co_await reload(server, server::Departure::keep);
}

Awaitable<void> remove_all_but_one(Server& server) {
  auto edit = server::LiveExports::Edit([](server::LiveExports::Configs configs) {
    configs.erase(configs.begin());
    return configs;
  });
  auto terms = server::LiveExports::Terms();
  co_await server.exports.change(std::move(edit), std::move(terms));
}

struct Change {
  const char* name;
  std::function<Awaitable<void>(Server&)> perform;
  bool succeeds = true;
};

const std::vector<Change>& changes() {
  static const auto all = std::vector<Change>{
      {"add", add},
      {"remove", remove_all_but_one},
      {"resize",
       [](Server& server) {
         return change_device(server, "disk", std::make_shared<server::Resize>(2 * size, false));
       }},
      {"direct-io",
       [](Server& server) {
         return change_device(server, "disk", std::make_shared<server::DirectIoChange>(false));
       }},
      {"swap",
       [](Server& server) {
         return change_device(server, "golden",
                              std::make_shared<server::FileSwap>(server.other.path()));
       }},
      {"reload", reload_all},
      {"reload with clients", reload_with_clients, false},
  };
  return all;
}

}  // namespace

TEST_CASE("a change that fails at any system call has changed nothing") {
  for (const auto& change : changes()) {
    auto refusals = 0;
    for (auto number = 0L;; ++number) {
      auto server = Server();
      const auto before = server.describe();
      auto refused = std::string();
      auto failed = std::string();
      try {
        const auto failing = FailingCall(number);
        server.run([&] { return change.perform(server); });
        failed = FailingCall::name();
      } catch (const std::exception& failure) {
        refused = failure.what();
        failed = FailingCall::name();
      }
      CAPTURE(change.name, number, failed, refused);
      if (!refused.empty()) {
        ++refusals;
        REQUIRE(server.describe() == before);
      }
      if (!failed.empty()) continue;
      // All calls have had their turn.
      CHECK(refused.empty() == change.succeeds);
      if (change.succeeds) CHECK(server.describe() != before);
      break;
    }
    CAPTURE(change.name);
    if (std::string(change.name) != "remove") CHECK(refusals > 0);
  }
}

TEST_CASE("a failed sync stays failed whatever changes, until an operator clears it") {
  auto server = Server();
  const auto change = [&](const std::function<void(Config&)>& edit) {
    server.next = server.config;
    edit(server.next);
    server.run([&] { return reload(server, server::Departure::now); });
  };
  const auto flush = [&](const char* name) {
    auto& client = server.connect(name);
    const auto error = client.call(proto::Command::flush, 0, 0).error;
    client.close();
    return error;
  };
  const auto buffered = [](Config& config) { config.exports[0].direct_io = engine::DirectIo::off; };
  change(buffered);
  REQUIRE(flush("disk") == 0);
  {
    const auto failing = FailingCall(0, "fdatasync");
    CHECK(flush("disk") == 5);
    REQUIRE(FailingCall::happened());
  }
  CHECK(flush("disk") == 5);
  change([](Config& config) { config.exports[0].direct_io = engine::DirectIo::automatic; });
  CHECK(flush("disk") == 5);
  change([](Config& config) { config.exports.erase(config.exports.begin()); });
  CHECK_THROWS_WITH(
      server.run([&]() -> Awaitable<void> { co_await server.exports.clear_sync_error("golden"); }),
      Catch::Contains("no sync of export \"golden\" has failed"));
  change(buffered);
  CHECK(flush("disk") == 5);
  server.run([&]() -> Awaitable<void> { co_await server.exports.clear_sync_error("disk"); });
  CHECK(flush("disk") == 0);
}
