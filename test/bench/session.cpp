#include "test/bench/session.h"

#include <netdb.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <sys/socket.h>
#include <sys/un.h>

#include <cerrno>
#include <cstddef>
#include <cstring>
#include <memory>
#include <optional>
#include <span>
#include <stdexcept>
#include <string>
#include <thread>
#include <vector>

#include <fmt/format.h>
#include <boost/endian/buffers.hpp>

#include "proto/constants.h"

namespace bench {
namespace {

using boost::endian::big_uint16_buf_t;
using boost::endian::big_uint32_buf_t;
using boost::endian::big_uint64_buf_t;

constexpr std::size_t reply_length_max = 64U << 10;  // bytes; a server that says more is not one

struct Greeting {  // "Newstyle negotiation"
  big_uint64_buf_t magic;
  big_uint64_buf_t option_magic;
  big_uint16_buf_t handshake_flags;
};
static_assert(sizeof(Greeting) == 18);

struct OptionHeader {
  big_uint64_buf_t magic;
  big_uint32_buf_t option;
  big_uint32_buf_t length;
};
static_assert(sizeof(OptionHeader) == 16);

struct OptionReplyHeader {
  big_uint64_buf_t magic;
  big_uint32_buf_t option;
  big_uint32_buf_t type;
  big_uint32_buf_t length;
};
static_assert(sizeof(OptionReplyHeader) == 20);

struct ExportInformation {  // NBD_INFO_EXPORT
  big_uint16_buf_t type;
  big_uint64_buf_t size;
  big_uint16_buf_t transmission_flags;
};
static_assert(sizeof(ExportInformation) == 12);

[[noreturn]] void fail(int error, const std::string& what) {
  throw std::runtime_error(fmt::format("{}: {}", what, std::strerror(error)));
}

// Nothing when no server listens there (yet).
std::optional<engine::FileDescriptor> try_connect(const sockaddr* address, socklen_t length,
                                                  int family) {
  engine::FileDescriptor socket(::socket(family, SOCK_STREAM | SOCK_CLOEXEC, 0));
  if (socket.get() < 0) fail(errno, "cannot make a socket");
  if (::connect(socket.get(), address, length) == 0) return socket;
  const int error = errno;
  // EAGAIN: the backlog of a Unix socket is full.
  if (error == ENOENT || error == ECONNREFUSED || error == EAGAIN) return std::nullopt;
  fail(error, "cannot connect to the server");
}

std::optional<engine::FileDescriptor> try_connect_unix(const std::string& path) {
  sockaddr_un name{};
  name.sun_family = AF_UNIX;
  if (path.size() >= sizeof name.sun_path)
    throw std::runtime_error("the path of the socket is too long");
  std::memcpy(name.sun_path, path.data(), path.size());
  return try_connect(reinterpret_cast<const sockaddr*>(&name), sizeof name, AF_UNIX);
}

std::optional<engine::FileDescriptor> try_connect_tcp(const Address& address) {
  addrinfo hints{};
  hints.ai_socktype = SOCK_STREAM;
  addrinfo* found = nullptr;
  const int error = ::getaddrinfo(address.host.c_str(), address.port.c_str(), &hints, &found);
  if (error != 0) {
    throw std::runtime_error(
        fmt::format("cannot resolve {}:{}: {}", address.host, address.port, ::gai_strerror(error)));
  }
  const std::unique_ptr<addrinfo, decltype(&::freeaddrinfo)> names(found, &::freeaddrinfo);
  for (const addrinfo* name = found; name != nullptr; name = name->ai_next) {
    auto socket = try_connect(name->ai_addr, name->ai_addrlen, name->ai_family);
    if (!socket) continue;
    const int on = 1;
    if (::setsockopt(socket->get(), IPPROTO_TCP, TCP_NODELAY, &on, sizeof on) != 0) {
      fail(errno, "cannot set TCP_NODELAY");
    }
    return socket;
  }
  return std::nullopt;
}

engine::FileDescriptor connect_patiently(const Address& address,
                                         std::chrono::milliseconds patience) {
  const auto deadline = std::chrono::steady_clock::now() + patience;
  for (;;) {
    auto socket = address.socket_path.empty() ? try_connect_tcp(address)
                                              : try_connect_unix(address.socket_path);
    if (socket) return std::move(*socket);
    if (std::chrono::steady_clock::now() >= deadline) {
      throw std::runtime_error("no server listens at the given address");
    }
    std::this_thread::sleep_for(std::chrono::milliseconds(2));
  }
}

void send_all(int socket, std::span<const std::byte> bytes) {
  while (!bytes.empty()) {
    const ssize_t sent = ::send(socket, bytes.data(), bytes.size(), MSG_NOSIGNAL);
    const int error = errno;
    if (sent < 0 && error == EINTR) continue;
    if (sent < 0) fail(error, "cannot send to the server");
    bytes = bytes.subspan(static_cast<std::size_t>(sent));
  }
}

void receive_all(int socket, std::span<std::byte> bytes) {
  while (!bytes.empty()) {
    const ssize_t received = ::recv(socket, bytes.data(), bytes.size(), 0);
    const int error = errno;
    if (received < 0 && error == EINTR) continue;
    if (received < 0) fail(error, "cannot receive from the server");
    if (received == 0)
      throw std::runtime_error("the server closed the connection in the handshake");
    bytes = bytes.subspan(static_cast<std::size_t>(received));
  }
}

template <typename Message>
Message receive_message(int socket) {
  Message message;
  receive_all(socket, std::as_writable_bytes(std::span(&message, 1)));
  return message;
}

template <typename Message>
void append(std::vector<std::byte>& to, const Message& message) {
  const auto bytes = std::as_bytes(std::span(&message, 1));
  to.insert(to.end(), bytes.begin(), bytes.end());
}

void send_option(int socket, proto::Option option, std::span<const std::byte> payload) {
  OptionHeader header;
  header.magic = proto::option_magic;
  header.option = static_cast<std::uint32_t>(option);
  header.length = static_cast<std::uint32_t>(payload.size());
  std::vector<std::byte> message;
  append(message, header);
  message.insert(message.end(), payload.begin(), payload.end());
  send_all(socket, message);
}

struct OptionAnswer {
  proto::OptionReply type = proto::OptionReply::ack;
  std::vector<std::byte> payload;
};

OptionAnswer receive_option_reply(int socket) {
  const auto header = receive_message<OptionReplyHeader>(socket);
  if (header.magic.value() != proto::option_reply_magic ||
      header.length.value() > reply_length_max) {
    throw std::runtime_error("the server's option reply makes no sense");
  }
  OptionAnswer answer{static_cast<proto::OptionReply>(header.type.value()), {}};
  answer.payload.resize(header.length.value());
  receive_all(socket, answer.payload);
  return answer;
}

void go(Session& session, const std::string& export_name) {
  std::vector<std::byte> payload;
  append(payload, big_uint32_buf_t(static_cast<std::uint32_t>(export_name.size())));
  const auto name = std::as_bytes(std::span(export_name));
  payload.insert(payload.end(), name.begin(), name.end());
  append(payload, big_uint16_buf_t(0));  // the server tells NBD_INFO_EXPORT unasked
  const int socket = session.socket.get();
  send_option(socket, proto::Option::go, payload);
  for (;;) {
    const OptionAnswer answer = receive_option_reply(socket);
    if (answer.type == proto::OptionReply::ack) return;
    if (answer.type != proto::OptionReply::info) {
      throw std::runtime_error(fmt::format("the server refuses the export '{}': reply {:#x}",
                                           export_name, static_cast<std::uint32_t>(answer.type)));
    }
    ExportInformation information;
    if (answer.payload.size() != sizeof information) continue;
    std::memcpy(&information, answer.payload.data(), sizeof information);
    if (information.type.value() != static_cast<std::uint16_t>(proto::Information::export_info))
      continue;
    session.export_size = information.size.value();
    session.transmission_flags = information.transmission_flags.value();
  }
}

void set_receive_timeout(int socket, std::chrono::seconds timeout) {
  const timeval value{.tv_sec = timeout.count(), .tv_usec = 0};
  if (::setsockopt(socket, SOL_SOCKET, SO_RCVTIMEO, &value, sizeof value) != 0) {
    fail(errno, "cannot set a receive timeout");
  }
}

}  // namespace

Session open_session(const Address& address, bool structured, std::chrono::milliseconds patience) {
  Session session;
  session.socket = connect_patiently(address, patience);
  session.tcp = address.socket_path.empty();
  const int socket = session.socket.get();
  set_receive_timeout(socket, std::chrono::seconds(30));

  const auto greeting = receive_message<Greeting>(socket);
  const std::uint16_t offered = greeting.handshake_flags.value();
  if (greeting.magic.value() != proto::greeting_magic ||
      greeting.option_magic.value() != proto::option_magic ||
      (offered & proto::handshake_flag::fixed_newstyle) == 0) {
    throw std::runtime_error("the server does not speak the fixed newstyle negotiation");
  }
  std::vector<std::byte> client_flags;
  append(client_flags, big_uint32_buf_t(offered & (proto::handshake_flag::fixed_newstyle |
                                                   proto::handshake_flag::no_zeroes)));
  send_all(socket, client_flags);
  if (structured) {
    send_option(socket, proto::Option::structured_reply, {});
    session.structured = receive_option_reply(socket).type == proto::OptionReply::ack;
  }
  go(session, address.export_name);
  if (session.export_size == 0)
    throw std::runtime_error("the export is empty or its size was not told");
  return session;
}

}  // namespace bench
