#include "test/support/test_client.h"

#include <poll.h>
#include <sys/socket.h>

#include <boost/endian/conversion.hpp>
#include <cerrno>
#include <cstring>
#include <stdexcept>

namespace test {
namespace {

constexpr int patience_ms = 10'000;

template <typename Number>
void put(Bytes& bytes, Number number) {
  boost::endian::native_to_big_inplace(number);
  const auto* const begin = reinterpret_cast<const std::byte*>(&number);
  bytes.insert(bytes.end(), begin, begin + sizeof number);
}

template <typename Number>
Number get(std::span<const std::byte>& bytes) {
  if (bytes.size() < sizeof(Number)) throw std::runtime_error("a message is too short");
  auto number = Number{};
  std::memcpy(&number, bytes.data(), sizeof number);
  bytes = bytes.subspan(sizeof number);
  return boost::endian::big_to_native(number);
}

std::span<const std::byte> bytes_of(std::string_view text) {
  return std::as_bytes(std::span(text));
}

void add_chunk(Result& result, const Reply& reply, proto::Command command, std::uint64_t offset,
               std::uint64_t read_length) {
  auto payload = std::span<const std::byte>(reply.payload);
  // Not before: most requests of absurd lengths are refused.
  if (reply.type == proto::ReplyType::offset_data || reply.type == proto::ReplyType::offset_hole)
    result.data.resize(read_length);
  switch (reply.type) {
    case proto::ReplyType::none:
      return;
    case proto::ReplyType::offset_data: {
      const auto begin = get<std::uint64_t>(payload) - offset;
      if (begin > result.data.size() || payload.size() > result.data.size() - begin)
        throw std::runtime_error("a data chunk lies outside of its request");
      std::memcpy(result.data.data() + begin, payload.data(), payload.size());
      ++result.content_chunks;
      return;
    }
    case proto::ReplyType::offset_hole: {
      const auto begin = get<std::uint64_t>(payload) - offset;
      const auto length = get<std::uint32_t>(payload);
      if (begin > result.data.size() || length > result.data.size() - begin || length == 0)
        throw std::runtime_error("a hole chunk lies outside of its request");
      std::memset(result.data.data() + begin, 0, length);
      ++result.hole_chunks;
      return;
    }
    case proto::ReplyType::block_status:
      get<std::uint32_t>(payload);
      while (!payload.empty()) {
        const auto length = get<std::uint32_t>(payload);
        result.extents.emplace_back(length, get<std::uint32_t>(payload));
      }
      return;
    case proto::ReplyType::block_status_ext:
      get<std::uint32_t>(payload);
      for (auto count = get<std::uint32_t>(payload); count > 0; --count) {
        const auto length = get<std::uint64_t>(payload);
        result.extents.emplace_back(length,
                                    static_cast<std::uint32_t>(get<std::uint64_t>(payload)));
      }
      return;
    case proto::ReplyType::error:
    case proto::ReplyType::error_offset: {
      result.error = get<std::uint32_t>(payload);
      const auto length = get<std::uint16_t>(payload);
      result.text.assign(reinterpret_cast<const char*>(payload.data()), length);
      return;
    }
  }
  throw std::runtime_error("a chunk of unknown type answers command " +
                           std::to_string(static_cast<unsigned>(command)));
}

}  // namespace

void Client::send(std::span<const std::byte> bytes) {
  while (!bytes.empty()) {
    const auto count = ::send(socket_.get(), bytes.data(), bytes.size(), MSG_NOSIGNAL);
    if (count < 0 && errno == EINTR) continue;
    if (count < 0) throw std::runtime_error(std::string("send: ") + std::strerror(errno));
    bytes = bytes.subspan(static_cast<std::size_t>(count));
  }
}

Bytes Client::receive(std::size_t count) {
  auto bytes = Bytes(count);
  auto rest = std::span(bytes);
  while (!rest.empty()) {
    auto state = pollfd{.fd = socket_.get(), .events = POLLIN, .revents = 0};
    if (::poll(&state, 1, patience_ms) == 0) throw std::runtime_error("the server does not answer");
    const auto received = ::recv(socket_.get(), rest.data(), rest.size(), 0);
    if (received == 0) throw std::runtime_error("the server has closed the connection");
    if (received < 0 && errno == EINTR) continue;
    if (received < 0) throw std::runtime_error(std::string("recv: ") + std::strerror(errno));
    rest = rest.subspan(static_cast<std::size_t>(received));
  }
  return bytes;
}

bool Client::has_input() const {
  auto state = pollfd{.fd = socket_.get(), .events = POLLIN, .revents = 0};
  return ::poll(&state, 1, 0) > 0;
}

bool Client::at_end() {
  auto state = pollfd{.fd = socket_.get(), .events = POLLIN, .revents = 0};
  if (::poll(&state, 1, patience_ms) == 0) return false;
  auto byte = std::byte{};
  return ::recv(socket_.get(), &byte, 1, 0) <= 0;
}

void Client::greet(std::uint32_t client_flags) {
  auto greeting = receive(18);
  auto bytes = std::span<const std::byte>(greeting);
  if (get<std::uint64_t>(bytes) != 0x4e42444d41474943 ||
      get<std::uint64_t>(bytes) != 0x49484156454f5054)
    throw std::runtime_error("wrong greeting");
  auto flags = Bytes{};
  put(flags, client_flags);
  send(flags);
}

Bytes Client::encode_option_header(std::uint32_t option, std::size_t length) {
  auto bytes = Bytes{};
  put<std::uint64_t>(bytes, 0x49484156454f5054);
  put(bytes, option);
  put(bytes, static_cast<std::uint32_t>(length));
  return bytes;
}

void Client::send_option(std::uint32_t option, std::span<const std::byte> payload) {
  auto bytes = encode_option_header(option, payload.size());
  bytes.insert(bytes.end(), payload.begin(), payload.end());
  send(bytes);
}

std::uint32_t Client::receive_option_reply(Bytes* payload) {
  const auto header = receive(20);
  auto bytes = std::span<const std::byte>(header).subspan(12);
  const auto type = get<std::uint32_t>(bytes);
  auto received = receive(get<std::uint32_t>(bytes));
  if (payload != nullptr) *payload = std::move(received);
  return type;
}

Bytes Client::go_payload(std::string_view export_name) {
  auto payload = Bytes{};
  put(payload, static_cast<std::uint32_t>(export_name.size()));
  const auto name = bytes_of(export_name);
  payload.insert(payload.end(), name.begin(), name.end());
  put<std::uint16_t>(payload, 0);
  return payload;
}

void Client::go(std::string_view export_name, Style style, bool block_status) {
  greet();
  style_ = style;
  const auto accept = [this](std::uint32_t option, std::span<const std::byte> payload) {
    send_option(option, payload);
    for (auto reply = Bytes{};;) {
      const auto type = receive_option_reply(&reply);
      if (type == 1) return;
      if ((type & 0x80000000) != 0) throw std::runtime_error("the server refuses an option");
      auto bytes = std::span<const std::byte>(reply);
      if (type != 3 || get<std::uint16_t>(bytes) != 0) continue;
      size_ = get<std::uint64_t>(bytes);
      transmission_flags_ = get<std::uint16_t>(bytes);
    }
  };
  if (style == Style::structured) accept(8, {});
  if (style == Style::extended) accept(11, {});
  if (block_status) {
    auto payload = Bytes{};
    put(payload, static_cast<std::uint32_t>(export_name.size()));
    const auto name = bytes_of(export_name);
    payload.insert(payload.end(), name.begin(), name.end());
    put<std::uint32_t>(payload, 1);
    const auto query = bytes_of("base:allocation");
    put(payload, static_cast<std::uint32_t>(query.size()));
    payload.insert(payload.end(), query.begin(), query.end());
    accept(10, payload);
  }
  accept(7, go_payload(export_name));
}

Bytes Client::encode_request(Style style, proto::Command command, std::uint64_t cookie,
                             std::uint64_t offset, std::uint64_t length, std::uint16_t flags) {
  auto bytes = Bytes{};
  put<std::uint32_t>(bytes, style == Style::extended ? 0x21e41c71 : 0x25609513);
  put(bytes, flags);
  put(bytes, static_cast<std::uint16_t>(command));
  put(bytes, cookie);
  put(bytes, offset);
  if (style == Style::extended) {
    put(bytes, length);
  } else {
    put(bytes, static_cast<std::uint32_t>(length));
  }
  return bytes;
}

void Client::request(proto::Command command, std::uint64_t cookie, std::uint64_t offset,
                     std::uint64_t length, std::uint16_t flags, std::span<const std::byte> data) {
  if (style_ == Style::extended && command == proto::Command::write)
    flags |= 1U << 5;  // PAYLOAD_LEN
  auto bytes = encode_request(style_, command, cookie, offset, length, flags);
  bytes.insert(bytes.end(), data.begin(), data.end());
  send(bytes);
}

Reply Client::receive_reply(std::size_t read_length) {
  auto reply = Reply{};
  const auto first = receive(4);
  auto bytes = std::span<const std::byte>(first);
  reply.magic = get<std::uint32_t>(bytes);
  const auto simple = reply.magic == 0x67446698;
  if (!simple && reply.magic != (style_ == Style::extended ? 0x6e8a278c : 0x668e33ef))
    throw std::runtime_error("a reply with a wrong magic number");
  const auto rest = receive(simple ? 12 : style_ == Style::extended ? 28 : 16);
  bytes = rest;
  if (simple) {
    reply.error = get<std::uint32_t>(bytes);
    reply.cookie = get<std::uint64_t>(bytes);
    if (reply.error == 0) reply.payload = receive(read_length);
    return reply;
  }
  reply.flags = get<std::uint16_t>(bytes);
  reply.type = static_cast<proto::ReplyType>(get<std::uint16_t>(bytes));
  reply.cookie = get<std::uint64_t>(bytes);
  if (style_ == Style::extended) reply.offset = get<std::uint64_t>(bytes);
  reply.payload =
      receive(style_ == Style::extended ? get<std::uint64_t>(bytes) : get<std::uint32_t>(bytes));
  return reply;
}

Result Client::result(std::uint64_t cookie, proto::Command command, std::uint64_t offset,
                      std::uint64_t length) {
  auto result = Result{};
  const auto read = command == proto::Command::read;
  for (;;) {
    const auto reply = receive_reply(read ? length : 0);
    if (reply.cookie != cookie) throw std::runtime_error("a reply with another cookie");
    if (reply.magic == 0x67446698) {
      if (read && style_ != Style::simple) throw std::runtime_error("a simple reply to a READ");
      result.error = reply.error;
      if (read && reply.error == 0) result.data = reply.payload;
      return result;
    }
    if (style_ == Style::extended && reply.offset != offset)
      throw std::runtime_error("an extended chunk without its request's offset");
    add_chunk(result, reply, command, offset, length);
    if ((reply.flags & proto::reply_flag_done) != 0) return result;
  }
}

Result Client::call(proto::Command command, std::uint64_t offset, std::uint64_t length,
                    std::uint16_t flags, std::span<const std::byte> data) {
  const auto cookie = next_cookie_++;
  request(command, cookie, offset, length, flags, data);
  return result(cookie, command, offset, length);
}

}  // namespace test
