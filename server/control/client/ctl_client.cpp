#include "server/control/client/ctl_client.h"

#include <fmt/format.h>
#include <sys/socket.h>
#include <sys/un.h>

#include <array>
#include <cerrno>
#include <cstring>
#include <stdexcept>
#include <string_view>
#include <utility>

namespace server {
namespace {

constexpr std::size_t answer_size_max = 64U << 20;  // bytes

[[noreturn]] void fail(const std::string& socket_path, std::string_view why,
                       std::string_view remedy) {
  throw std::runtime_error(fmt::format("cannot ask the server at {}: {}{}{}", socket_path, why,
                                       remedy.empty() ? "" : "; ", remedy));
}

std::string_view remedy_of(int error) {
  switch (error) {
    case ENOENT:
    case ECONNREFUSED:
      return "is it running, with --control or [control] in its configuration? --socket names "
             "another one";
    case EACCES:
      return "only the user it runs as, and root, may";
    default:
      return "";
  }
}

}  // namespace

CtlClient::CtlClient(std::string socket_path)
    : socket_path_(std::move(socket_path)),
      socket_(::socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0)) {
  auto where = sockaddr_un{};
  where.sun_family = AF_UNIX;
  if (socket_path_.size() >= sizeof where.sun_path)
    fail(socket_path_, "the path is too long for a socket", "");
  std::memcpy(where.sun_path, socket_path_.data(), socket_path_.size());
  if (::connect(socket_.get(), reinterpret_cast<const sockaddr*>(&where), sizeof where) != 0) {
    const auto error = errno;
    fail(socket_path_, std::strerror(error), remedy_of(error));
  }
}

std::string CtlClient::ask(const std::string& request) {
  for (auto sent = std::size_t{0}; sent < request.size();) {
    const auto count =
        ::send(socket_.get(), request.data() + sent, request.size() - sent, MSG_NOSIGNAL);
    if (count < 0) fail(socket_path_, std::strerror(errno), "");
    sent += static_cast<std::size_t>(count);
  }
  auto end = received_.find('\n');
  while (end == std::string::npos) {
    auto bytes = std::array<char, 65536>{};
    const auto count = ::recv(socket_.get(), bytes.data(), bytes.size(), 0);
    if (count < 0) fail(socket_path_, std::strerror(errno), "");
    if (count == 0) fail(socket_path_, "it closed the connection", "its log may say why");
    received_.append(bytes.data(), static_cast<std::size_t>(count));
    if (received_.size() > answer_size_max) fail(socket_path_, "its answer has no end", "");
    end = received_.find('\n');
  }
  auto answer = received_.substr(0, end);
  received_.erase(0, end + 1);
  return answer;
}

}  // namespace server
