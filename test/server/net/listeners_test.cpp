#include "server/net/listeners.h"

#include <fcntl.h>
#include <netinet/in.h>
#include <sys/socket.h>
#include <unistd.h>

#include <catch2/catch.hpp>
#include <cstdlib>
#include <string>
#include <vector>

#include "test/support/log_lines.h"
#include "test/support/temporary_folder.h"

using Addresses = std::vector<std::string>;

namespace {

constexpr auto any_port = "127.0.0.1:0";

// Connects as a client does; nothing: it is refused.
engine::FileDescriptor connect_to(const std::string& name) {
  auto address = sockaddr_in{};
  address.sin_family = AF_INET;
  address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  address.sin_port =
      htons(static_cast<std::uint16_t>(std::stoul(name.substr(name.rfind(':') + 1))));
  auto socket = engine::FileDescriptor(::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0));
  if (::connect(socket.get(), reinterpret_cast<const sockaddr*>(&address), sizeof address) != 0)
    socket.reset();
  return socket;
}

struct Listening {
  // Listens on these addresses only, by a change of what it listened on before.
  void change(const Addresses& addresses) {
    listeners.commit(addresses, listeners.prepare(addresses));
  }
  void start(const Addresses& addresses) {
    listeners.open(addresses);
    listeners.start();
  }

  test::LogLines log;
  const test::TemporaryFolder folder;
  server::asio::io_context io_context{1};
  std::vector<engine::FileDescriptor> accepted;
  server::Listeners listeners{io_context, any_port,
                              [this](engine::FileDescriptor socket, server::ClientIdentity) {
                                accepted.push_back(std::move(socket));
                              }};
};

// A socket that the parent of this process passes, as the first one. Its number goes back at the
// end to the descriptor that had it.
class PassedSocket {
 public:
  PassedSocket() {
    auto sockets = server::open_listening_sockets(any_port);
    name = sockets.front().name();
    const auto copy = above(sockets.front().fd());  // the socket itself may have the number
    sockets.clear();
    REQUIRE(::dup2(copy.get(), number) == number);
    ::setenv("LISTEN_PID", std::to_string(::getpid()).c_str(), 1);
    ::setenv("LISTEN_FDS", "1", 1);
  }
  ~PassedSocket() {
    if (before_) ::dup2(before_.get(), number);
  }
  PassedSocket(const PassedSocket&) = delete;
  PassedSocket& operator=(const PassedSocket&) = delete;

  std::string name;

 private:
  static constexpr int number = 3;
  static engine::FileDescriptor above(int fd) {
    return engine::FileDescriptor(::fcntl(fd, F_DUPFD_CLOEXEC, number + 1));
  }

  const engine::FileDescriptor before_ = above(number);
};

}  // namespace

TEST_CASE("without an address the default is listened on, and clients come in") {
  auto listening = Listening();
  listening.start({});
  REQUIRE(listening.listeners.names().size() == 1);
  const auto client = connect_to(listening.listeners.names().front());
  REQUIRE(client);
  listening.io_context.run_one();
  REQUIRE(listening.accepted.size() == 1);
  CHECK((::fcntl(listening.accepted.front().get(), F_GETFL) & O_NONBLOCK) != 0);
}

TEST_CASE("all clients that wait are accepted at once") {
  auto listening = Listening();
  listening.start({});
  auto clients = std::vector<engine::FileDescriptor>{};
  for (auto count = 0; count < 10; ++count)
    clients.push_back(connect_to(listening.listeners.names().front()));
  listening.io_context.run_one();
  CHECK(listening.accepted.size() == 10);
}

TEST_CASE("closed listeners refuse clients, and those that wait are not accepted") {
  auto listening = Listening();
  listening.start({});
  const auto name = listening.listeners.names().front();
  const auto early = connect_to(name);
  CHECK_FALSE(listening.listeners.empty());
  listening.listeners.close();
  CHECK(listening.listeners.empty());
  CHECK_FALSE(connect_to(name));
  listening.io_context.run();
  CHECK(listening.accepted.empty());
}

TEST_CASE("a change closes what is no longer wanted and keeps the sockets of the rest") {
  auto listening = Listening();
  const auto first = "unix:" + (listening.folder / "first");
  const auto second = "unix:" + (listening.folder / "second");
  listening.start({first, any_port});
  const auto port = listening.listeners.names().back();

  listening.change({any_port, second});
  CHECK(listening.listeners.names() == Addresses{port, second});
  CHECK(connect_to(port));
  CHECK(::access((listening.folder / "first").c_str(), F_OK) != 0);
  CHECK(::access((listening.folder / "second").c_str(), F_OK) == 0);

  listening.change({});  // the default, which is listened on already
  CHECK(listening.listeners.names() == Addresses{port});
  CHECK(::access((listening.folder / "second").c_str(), F_OK) != 0);
}

TEST_CASE("a change that cannot be leaves everything as it was") {
  auto listening = Listening();
  listening.start({any_port});
  const auto names = listening.listeners.names();
  const auto new_socket = "unix:" + (listening.folder / "socket");
  CHECK_THROWS_WITH(listening.listeners.prepare({new_socket, names.front()}),
                    Catch::Contains(names.front()));
  CHECK(::access((listening.folder / "socket").c_str(), F_OK) != 0);
  CHECK(listening.listeners.names() == names);
  CHECK(connect_to(names.front()));
}

TEST_CASE("what was prepared and is not wanted after all is closed again") {
  auto listening = Listening();
  listening.start({any_port});
  {
    const auto opened = listening.listeners.prepare({"unix:" + (listening.folder / "socket")});
    CHECK(opened.size() == 1);
    CHECK(::access((listening.folder / "socket").c_str(), F_OK) == 0);
  }
  CHECK(::access((listening.folder / "socket").c_str(), F_OK) != 0);
  CHECK(listening.listeners.names().size() == 1);
}

TEST_CASE("a socket that was passed serves its address, and stays whatever is configured") {
  const auto passed = PassedSocket();
  auto listening = Listening();
  listening.start({passed.name, any_port});  // opening the first would fail
  const auto names = listening.listeners.names();
  REQUIRE(names.size() == 2);
  CHECK(names.front() == passed.name);

  listening.change({passed.name});
  CHECK(listening.listeners.names() == Addresses{passed.name});
  listening.change({});
  CHECK(listening.listeners.names() == Addresses{passed.name});
  CHECK(connect_to(passed.name));
}

TEST_CASE("nothing is opened beside a passed socket when no address is configured") {
  const auto passed = PassedSocket();
  auto listening = Listening();
  listening.start({});
  CHECK(listening.listeners.names() == Addresses{passed.name});
}

TEST_CASE("an address that cannot be opened ends the start") {
  auto listening = Listening();
  CHECK_THROWS_WITH(listening.listeners.open({"unix:" + (listening.folder / "missing/socket")}),
                    Catch::Contains("missing/socket"));
}
