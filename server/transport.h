// The byte stream to one client: non-blocking reads and writes, and descriptors that Asio can wait
// on. Used by the worker that owns the connection. A TLS transport replaces the object and keeps
// the descriptors.
#pragma once

#include <sys/uio.h>

#include <cstddef>
#include <optional>
#include <span>
#include <string>

#include "server/asio.h"
#include "server/unique_fd.h"

namespace server {

class Transport {
 public:
  // One descriptor for both directions: a connected stream socket.
  Transport(asio::io_context& io_context, UniqueFd socket, std::string peer);
  // One for each direction: standard input and output.
  Transport(asio::io_context& io_context, UniqueFd input, UniqueFd output, std::string peer);
  Transport(const Transport&) = delete;
  Transport& operator=(const Transport&) = delete;

  // Bytes received, 0 at the end of the stream, or -errno (-EAGAIN: wait for readable()).
  ssize_t read_some(std::span<const iovec> buffers) noexcept;
  // Bytes sent, or -errno (-EAGAIN: wait for writable()).
  ssize_t write_some(std::span<const iovec> buffers) noexcept;

  Descriptor& readable() noexcept { return input_; }
  Descriptor& writable() noexcept { return output_ ? *output_ : input_; }

  // Says "no more" to the client; what was written still arrives.
  void end_output() noexcept;
  // Ends pending waits and closes.
  void close() noexcept;

  // The client has closed its side, whether or not all it sent has been read.
  bool peer_has_closed() noexcept;

  // Who is on the other side, for the log.
  const std::string& peer() const noexcept { return peer_; }

 private:
  Descriptor input_;
  std::optional<Descriptor> output_;  // absent: input_ serves both directions
  std::string peer_;
};

}  // namespace server
