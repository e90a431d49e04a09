// A blocking NBD client for tests. It encodes and decodes by itself, so that a mistake in proto/
// cannot hide behind its twin. Every wait ends: a receive of more than ten seconds throws.
#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "engine/file_descriptor.h"
#include "proto/constants.h"
#include "test/support/bytes.h"

namespace test {

// A reply or chunk as it arrived.
struct Reply {
  std::uint32_t magic = 0;
  std::uint16_t flags = 0;
  proto::ReplyType type = proto::ReplyType::none;  // of a chunk
  std::uint32_t error = 0;                         // of a simple reply
  std::uint64_t cookie = 0;
  std::uint64_t offset = 0;  // of an extended chunk
  Bytes payload;             // of a chunk
};

// The outcome of one request, all chunks taken together.
struct Result {
  std::uint32_t error = 0;
  std::string text;
  Bytes data;  // of READ
  std::size_t content_chunks = 0;
  std::size_t hole_chunks = 0;
  std::vector<std::pair<std::uint64_t, std::uint32_t>>
      extents;  // length and flags, of BLOCK_STATUS
};

enum class Style : std::uint8_t { simple, structured, extended };

class Client {
 public:
  explicit Client(engine::FileDescriptor socket) : socket_(std::move(socket)) {}

  // Reads the greeting and negotiates up to GO. Throws when the server refuses.
  void go(std::string_view export_name, Style style = Style::simple, bool block_status = false);

  // The parts of the above, for tests of the handshake.
  void greet(std::uint32_t client_flags = 3);
  static Bytes encode_option_header(std::uint32_t option, std::size_t length);
  void send_option(std::uint32_t option, std::span<const std::byte> payload);
  std::uint32_t receive_option_reply(Bytes* payload = nullptr);  // the type
  static Bytes go_payload(std::string_view export_name);

  // Sends a request header, and for WRITE the data behind it.
  void request(proto::Command command, std::uint64_t cookie, std::uint64_t offset,
               std::uint64_t length, std::uint16_t flags = 0, std::span<const std::byte> data = {});
  static Bytes encode_request(Style style, proto::Command command, std::uint64_t cookie,
                              std::uint64_t offset, std::uint64_t length, std::uint16_t flags);

  // The next reply on the wire. `read_length`: what a simple reply without error is followed by.
  Reply receive_reply(std::size_t read_length = 0);
  // Takes replies until the request with this cookie is complete; those of others must not come in
  // between.
  Result result(std::uint64_t cookie, proto::Command command, std::uint64_t offset,
                std::uint64_t length);
  // Sends and waits.
  Result call(proto::Command command, std::uint64_t offset, std::uint64_t length,
              std::uint16_t flags = 0, std::span<const std::byte> data = {});

  void send(std::span<const std::byte> bytes);
  Bytes receive(std::size_t count);
  // Something has arrived that was not taken yet.
  bool has_input() const;
  // True: the server has closed the connection, and everything before that has been taken.
  bool at_end();
  std::uint64_t size() const noexcept { return size_; }
  std::uint16_t transmission_flags() const noexcept { return transmission_flags_; }
  int fd() const noexcept { return socket_.get(); }
  void close() noexcept { socket_.reset(); }

 private:
  engine::FileDescriptor socket_;
  Style style_ = Style::simple;
  std::uint64_t size_ = 0;
  std::uint16_t transmission_flags_ = 0;
  std::uint64_t next_cookie_ = 0x1122334455667788;
};

}  // namespace test
