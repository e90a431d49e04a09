#include "server/attach/remote_connection.h"

#include <netinet/in.h>
#include <poll.h>
#include <sys/socket.h>
#include <sys/un.h>

#include <algorithm>
#include <array>
#include <catch2/catch.hpp>
#include <cerrno>
#include <chrono>
#include <cstring>
#include <string>
#include <thread>

#include "test/support/temporary_folder.h"
#include "test/support/test_client.h"
#include "test/support/test_server.h"

using namespace std::chrono_literals;
using engine::FileDescriptor;

namespace {

// A listening socket, and the address of an export behind it.
struct Listening {
  explicit Listening(const test::TemporaryFolder& folder) {
    address.socket_path = folder / "socket";
    address.export_name = test::TestServer::export_name;
    auto name = sockaddr_un{};
    name.sun_family = AF_UNIX;
    std::memcpy(name.sun_path, address.socket_path.data(), address.socket_path.size());
    socket.reset(::socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0));
    REQUIRE(::bind(socket.get(), reinterpret_cast<const sockaddr*>(&name), sizeof name) == 0);
    REQUIRE(::listen(socket.get(), 4) == 0);
  }

  engine::FileDescriptor accept() const {
    return engine::FileDescriptor(::accept(socket.get(), nullptr, nullptr));
  }

  server::RemoteAddress address;
  engine::FileDescriptor socket;
};

}  // namespace

TEST_CASE("a connection is negotiated with our own server and ready for blocking use") {
  const auto folder = test::TemporaryFolder();
  const auto listening = Listening(folder);
  auto served = test::TestServer();
  auto acceptor = std::thread([&] {
    served.workers().front()->serve(listening.accept(), server::ClientIdentity{.name = "a test"});
  });
  auto connection = server::connect_remote(listening.address, 10s);
  acceptor.join();
  CHECK(connection.remote_export.size == 8U << 20);
  CHECK(connection.remote_export.block_size_minimum == 1);
  auto client = test::Client(std::move(connection.socket));
  const auto data = test::pattern(4096, 1);
  CHECK(client.call(proto::Command::write, 0, data.size(), 0, data).error == 0);
  CHECK(client.call(proto::Command::read, 0, data.size()).data == data);
}

TEST_CASE("a missing export is refused with what the server says") {
  const auto folder = test::TemporaryFolder();
  auto listening = Listening(folder);
  listening.address.export_name = "other";
  auto served = test::TestServer();
  auto acceptor = std::thread([&] {
    served.workers().front()->serve(listening.accept(), server::ClientIdentity{.name = "a test"});
  });
  CHECK_THROWS_WITH(server::connect_remote(listening.address, 10s),
                    Catch::Contains("nbd+unix:///other") && Catch::Contains("not found"));
  acceptor.join();
}

TEST_CASE("a server that does not answer is given up at the deadline") {
  const auto folder = test::TemporaryFolder();
  const auto listening = Listening(folder);
  CHECK_THROWS_WITH(server::connect_remote(listening.address, 50ms),
                    Catch::Contains("does not answer"));
}

TEST_CASE("a server that ends in the handshake is noticed") {
  const auto folder = test::TemporaryFolder();
  const auto listening = Listening(folder);
  auto acceptor = std::thread([&] { listening.accept(); });
  CHECK_THROWS_WITH(server::connect_remote(listening.address, 10s),
                    Catch::Contains("closed the connection"));
  acceptor.join();
}

TEST_CASE("nobody listening is said with the address") {
  auto address = server::RemoteAddress();
  address.socket_path = "/nonexistent/socket";
  CHECK_THROWS_WITH(server::connect_remote(address, 10s),
                    Catch::Contains("/nonexistent/socket: No such file") &&
                        Catch::Contains("is the server running?"));
}

TEST_CASE("an aborted TCP connection is reset and what it had not sent never arrives") {
  auto listener = engine::FileDescriptor(::socket(AF_INET, SOCK_STREAM, 0));
  auto name = sockaddr_in{};
  name.sin_family = AF_INET;
  name.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  auto length = socklen_t{sizeof name};
  auto* const address = reinterpret_cast<sockaddr*>(&name);
  // A small window, so that not all of it can have been sent.
  const auto size = 4096;
  ::setsockopt(listener.get(), SOL_SOCKET, SO_RCVBUF, &size, sizeof size);
  REQUIRE(::bind(listener.get(), address, length) == 0);
  REQUIRE(::listen(listener.get(), 1) == 0);
  REQUIRE(::getsockname(listener.get(), address, &length) == 0);
  auto client = engine::FileDescriptor(::socket(AF_INET, SOCK_STREAM, 0));
  REQUIRE(::connect(client.get(), address, length) == 0);
  auto accepted = engine::FileDescriptor(::accept(listener.get(), nullptr, nullptr));
  const auto text = std::string(1 << 16, 'x');
  auto sent = std::size_t{0};
  for (auto count = ssize_t{1}; count > 0;
       sent += static_cast<std::size_t>(std::max<ssize_t>(count, 0)))
    count = ::send(client.get(), text.data(), text.size(), MSG_DONTWAIT);
  // Somebody else holds it as well, as the kernel does.
  const auto kernels = engine::FileDescriptor(::dup(client.get()));
  server::abort_connection(client.get());

  auto state = pollfd{.fd = kernels.get(), .events = POLLRDHUP, .revents = 0};
  CHECK(::poll(&state, 1, 0) == 1);
  auto received = std::size_t{0};
  auto room = std::array<char, 4096>{};
  auto count = ssize_t{1};
  while (count > 0) {
    count = ::recv(accepted.get(), room.data(), room.size(), 0);
    if (count > 0) received += static_cast<std::size_t>(count);
  }
  CHECK(count == -1);
  CHECK(errno == ECONNRESET);
  CHECK(received < sent);
}
