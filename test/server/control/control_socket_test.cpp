#include "server/control/control_socket.h"

#include <poll.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <catch2/catch.hpp>
#include <cstdlib>
#include <cstring>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "server/net/listen_address.h"

namespace {

// A control socket that answers with what it was asked, served by a thread of its own.
class Echo {
 public:
  Echo()
      : path_(folder_ + "/control.sock"),
        socket_(io_context_, server::open_private_socket(path_),
                [](std::string line) { return answer(std::move(line)); }),
        thread_([this] { io_context_.run(); }) {}
  ~Echo() {
    io_context_.stop();
    thread_.join();
    ::unlink(path_.c_str());
    ::rmdir(folder_.c_str());
  }

  engine::FileDescriptor connect() const {
    auto where = sockaddr_un{};
    where.sun_family = AF_UNIX;
    std::memcpy(where.sun_path, path_.data(), path_.size());
    auto client = engine::FileDescriptor(::socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0));
    REQUIRE(::connect(client.get(), reinterpret_cast<const sockaddr*>(&where), sizeof where) == 0);
    return client;
  }
  const std::string& path() const { return path_; }

 private:
  static server::Awaitable<std::string> answer(std::string line) { co_return "<" + line + ">\n"; }
  static std::string make_folder() {
    auto name = std::string("/tmp/control_socket_XXXXXX");
    return ::mkdtemp(name.data());
  }

  const std::string folder_ = make_folder();
  const std::string path_;
  server::asio::io_context io_context_;
  server::ControlSocket socket_;
  std::thread thread_;
};

// Up to the end of the stream or `count` lines.
std::string receive(int socket, long count = -1) {
  auto text = std::string{};
  for (;;) {
    if (count >= 0 && std::count(text.begin(), text.end(), '\n') >= count) return text;
    auto state = pollfd{.fd = socket, .events = POLLIN, .revents = 0};
    REQUIRE(::poll(&state, 1, 10'000) == 1);
    auto bytes = std::array<char, 4096>{};
    const auto received = ::recv(socket, bytes.data(), bytes.size(), 0);
    if (received <= 0) return text;
    text.append(bytes.data(), static_cast<std::size_t>(received));
  }
}

void send(int socket, const std::string& text) {
  for (auto sent = std::size_t{0}; sent < text.size();) {
    const auto count = ::send(socket, text.data() + sent, text.size() - sent, MSG_NOSIGNAL);
    if (count < 0) return;  // closed by the other side, which the test will see
    sent += static_cast<std::size_t>(count);
  }
}

}  // namespace

TEST_CASE("the control socket is for its owner alone") {
  const auto echo = Echo();
  struct stat status {};
  REQUIRE(::stat(echo.path().c_str(), &status) == 0);
  CHECK((status.st_mode & 0777) == 0600);
}

TEST_CASE("each line is answered, in order, however it arrives") {
  const auto echo = Echo();
  const auto client = echo.connect();
  send(client.get(), "one\ntwo\nth");
  CHECK(receive(client.get(), 2) == "<one>\n<two>\n");
  send(client.get(), "ree\n");
  CHECK(receive(client.get(), 1) == "<three>\n");
}

TEST_CASE("a request without end is refused and its connection closed") {
  const auto echo = Echo();
  const auto client = echo.connect();
  send(client.get(), std::string(2 * server::control_line_size_max, 'x'));
  CHECK(receive(client.get()).find("at most 65536 bytes") != std::string::npos);
  const auto another = echo.connect();
  send(another.get(), std::string(server::control_line_size_max - 1, 'x') + '\n');
  CHECK(receive(another.get(), 1).size() == server::control_line_size_max + 2);
}

TEST_CASE("more clients than a few are not served by the control socket") {
  const auto echo = Echo();
  auto clients = std::vector<engine::FileDescriptor>{};
  for (auto count = 0; count < 16; ++count) {
    clients.push_back(echo.connect());
    send(clients.back().get(), "hello\n");
    REQUIRE(receive(clients.back().get(), 1) == "<hello>\n");
  }
  CHECK(receive(echo.connect().get()).empty());
  clients.pop_back();
  // Its place is free once the server has seen it go.
  for (auto served = false; !served;) {
    const auto client = echo.connect();
    send(client.get(), "hello\n");
    served = receive(client.get(), 1) == "<hello>\n";
  }
}
