#include "server/net/listener.h"

#include <netinet/in.h>
#include <netinet/tcp.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include <catch2/catch.hpp>
#include <cerrno>
#include <chrono>
#include <memory>
#include <string>
#include <vector>

#include "test/support/failing_calls.h"
#include "test/support/log_lines.h"
#include "test/support/temporary_folder.h"

namespace {

struct Listening {
  Listening() {
    auto sockets = server::open_listening_sockets("unix:" + path);
    listener = std::make_unique<server::Listener>(
        io_context, std::move(sockets.front()),
        [this](engine::FileDescriptor socket, server::ClientIdentity client) {
          accepted.push_back(std::move(socket));
          clients.push_back(std::move(client));
        });
  }
  engine::FileDescriptor connect() const {
    auto address = sockaddr_un{};
    address.sun_family = AF_UNIX;
    path.copy(address.sun_path, sizeof address.sun_path - 1);
    auto socket = engine::FileDescriptor(::socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0));
    REQUIRE(::connect(socket.get(), reinterpret_cast<const sockaddr*>(&address), sizeof address) ==
            0);
    return socket;
  }

  test::LogLines log;
  const test::TemporaryFolder folder;
  const std::string path = folder / "socket";
  server::asio::io_context io_context{1};
  std::vector<engine::FileDescriptor> accepted;
  std::vector<server::ClientIdentity> clients;
  std::unique_ptr<server::Listener> listener;
};

}  // namespace

TEST_CASE("a client on a Unix socket is known by its process and its user") {
  auto listening = Listening();
  const auto client = listening.connect();
  listening.io_context.run_one();
  REQUIRE(listening.clients.size() == 1);
  REQUIRE(listening.clients.front().local);
  CHECK(listening.clients.front().local->process == ::getpid());
  CHECK(listening.clients.front().local->user == ::geteuid());
}

TEST_CASE("a client that has gone before it was accepted does no harm") {
  auto listening = Listening();
  listening.connect().reset();
  const auto client = listening.connect();
  listening.io_context.run_one();
  CHECK(listening.accepted.size() == 2);  // a Unix socket shows the first one, too
}

TEST_CASE("without a free descriptor clients wait, and are accepted when there is one") {
  auto listening = Listening();
  const auto client = listening.connect();
  {
    const auto none = test::FailingCall(0, "accept4", EMFILE);
    listening.io_context.run_one();
    CHECK(listening.accepted.empty());
    const auto lines = listening.log.take();
    REQUIRE(lines.size() == 1);
    CHECK_THAT(lines.front(), Catch::Contains("cannot accept") && Catch::Contains("LimitNOFILE="));
    listening.io_context.poll();
    CHECK(listening.log.take().empty());  // it does not go round in circles
  }
  while (listening.accepted.empty()) REQUIRE(listening.io_context.run_one() == 1);
  CHECK(listening.accepted.size() == 1);
}

TEST_CASE("a listener may be closed while its clients wait for a free descriptor") {
  auto listening = Listening();
  const auto client = listening.connect();
  const auto none = test::FailingCall(0, "accept4", EMFILE);
  listening.io_context.run_one();
  REQUIRE(listening.accepted.empty());
  // The end of the pause and the end of the listener come in one turn, in this order or the other.
  const auto much_later = std::chrono::steady_clock::now() + std::chrono::milliseconds(150);
  while (std::chrono::steady_clock::now() < much_later) {
  }
  server::asio::post(listening.io_context, [&] { listening.listener.reset(); });
  listening.io_context.run();
  CHECK(listening.listener == nullptr);
  CHECK(listening.accepted.empty());
}
