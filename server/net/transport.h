// The byte stream to one client: non-blocking reads and writes, and waits for when they can go on.
// Used by the worker that owns the connection. A connection begins with a SocketTransport; STARTTLS
// replaces it by one that takes over its descriptors.
#pragma once

#include <sys/uio.h>

#include <cstdint>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <utility>

#include "engine/file_descriptor.h"
#include "server/base/asio.h"
#include "server/policy/client_identity.h"

namespace server {

// The descriptors of a transport, and its client.
struct Stream {
  Descriptor input;
  std::optional<Descriptor> output;  // absent: input serves both directions
  ClientIdentity client;
};

class Transport {
 public:
  virtual ~Transport() = default;
  Transport(const Transport&) = delete;
  Transport& operator=(const Transport&) = delete;

  // Bytes received, 0 at the end of the stream, or -errno (-EAGAIN: wait_readable()). Less than was
  // asked for: nothing more can be had now.
  virtual ssize_t read_some(std::span<const iovec> buffers) noexcept = 0;
  // Bytes sent, or -errno (-EAGAIN: wait_writable()). The rest must be offered again,
  // from the same memory and in front of anything new: a part of it may be on its way.
  virtual ssize_t write_some(std::span<const iovec> buffers) noexcept = 0;
  // There is something to read that the kernel does not know of, so that waiting would be in vain.
  virtual bool has_buffered_input() const noexcept { return false; }

  // Complete with an error code: any Asio token for one.
  template <typename Token>
  auto wait_readable(Token&& token) {
    return reading_needs_output_
               ? writable().async_wait(Descriptor::wait_write, std::forward<Token>(token))
               : stream_.input.async_wait(Descriptor::wait_read, std::forward<Token>(token));
  }
  template <typename Token>
  auto wait_writable(Token&& token) {
    return writing_needs_input_
               ? stream_.input.async_wait(Descriptor::wait_read, std::forward<Token>(token))
               : writable().async_wait(Descriptor::wait_write, std::forward<Token>(token));
  }
  // Completes when the client can neither send nor receive any more, and may complete before that.
  template <typename Token>
  auto wait_broken(Token&& token) {
    return writable().async_wait(Descriptor::wait_error, std::forward<Token>(token));
  }
  // Ends pending waits.
  void cancel_waits() noexcept;

  // Says "no more" to the client; what was written still arrives.
  virtual void end_output() noexcept;
  // Ends pending waits and closes.
  virtual void close() noexcept;

  // Where input comes from; open until close().
  int input_descriptor() noexcept { return stream_.input.native_handle(); }
  // Bytes that were written and that the client has not taken, as far as the kernel tells.
  std::uint64_t unsent() noexcept;
  // The client has closed its side, whether or not all it sent has been read.
  bool peer_has_closed() noexcept;
  // The client can neither send nor receive any more.
  bool is_broken() noexcept;
  // There is something to read, from the kernel or otherwise.
  bool has_input() noexcept;
  // Copies what is to be read to `memory`, as far as it has room, and leaves it to be read. Gives
  // the number of bytes; nothing when they cannot be known without reading them (TLS, a pipe).
  std::optional<std::size_t> peek_input(std::span<std::byte> memory) noexcept;

  const ClientIdentity& client() const noexcept { return stream_.client; }
  // The name of the other side, for the log.
  const std::string& peer() const noexcept { return client().name; }
  // How the stream is protected, for people; empty: not at all.
  virtual std::string protection() const { return {}; }

  // Gives its stream up to a transport that takes its place.
  Stream take_stream() noexcept { return std::move(stream_); }

 protected:
  explicit Transport(Stream stream) noexcept : stream_(std::move(stream)) {}

  Descriptor& writable() noexcept { return stream_.output ? *stream_.output : stream_.input; }

  Stream stream_;
  // Encryption may have to send before it can receive, and the reverse.
  bool reading_needs_output_ = false;
  bool writing_needs_input_ = false;
};

class SocketTransport final : public Transport {
 public:
  explicit SocketTransport(Stream stream) noexcept : Transport(std::move(stream)) {}
  // One descriptor for both directions: a connected stream socket.
  SocketTransport(asio::io_context& io_context, engine::FileDescriptor socket,
                  ClientIdentity client);
  // One for each direction: standard input and output.
  SocketTransport(asio::io_context& io_context, engine::FileDescriptor input,
                  engine::FileDescriptor output, ClientIdentity client);

  ssize_t read_some(std::span<const iovec> buffers) noexcept override;
  ssize_t write_some(std::span<const iovec> buffers) noexcept override;
};

}  // namespace server
