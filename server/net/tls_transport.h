// The byte stream to one client through TLS: OpenSSL on the descriptors themselves, so that the
// kernel can encrypt what is sent where it knows how to (kernel TLS); nothing depends on that.
// Belongs to one worker, as every transport.
#pragma once

#include <array>
#include <atomic>
#include <cstddef>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>

#include "server/net/tls_credentials.h"
#include "server/net/transport.h"

struct ssl_st;

namespace server {

class TlsTransport final : public Transport, private KeyLookup {
 public:
  // Takes over the stream of a transport on which STARTTLS was acknowledged. Nothing can be read or
  // written before the handshake is over.
  TlsTransport(Stream stream, std::shared_ptr<const TlsCredentials> credentials);
  ~TlsTransport() override;

  // True when the handshake is over, and the client's identity known; false: it has failed, which
  // is in the log, or the transport was closed. The work on keys is done by threads of the
  // credentials, so that strangers do not take the time of others' clients. The transport outlives
  // the coroutine.
  Awaitable<bool> shake_hands();

  ssize_t read_some(std::span<const iovec> buffers) noexcept override;
  ssize_t write_some(std::span<const iovec> buffers) noexcept override;
  bool has_buffered_input() const noexcept override;
  void end_output() noexcept override;
  void close() noexcept override;
  bool is_open() const noexcept;
  std::string protection() const override;

 private:
  enum class Direction { input, output };
  enum class Step { again, done, failed };

  static constexpr std::size_t record_size = 16U << 10;  // bytes; the largest of TLS
  using Record = std::array<std::byte, record_size>;

  struct FreeSession {
    void operator()(ssl_st* session) const noexcept;
  };

  std::span<const unsigned char> find_key(std::string_view user) override;
  Awaitable<Step> take_step();
  void step() noexcept;
  void note_identity();
  std::span<const std::byte> next_record(std::span<const iovec> buffers, std::size_t skip);
  ssize_t failed(int result, Direction direction) noexcept;

  const std::shared_ptr<const TlsCredentials> credentials_;  // outlive the session
  std::unique_ptr<ssl_st, FreeSession> session_;
  std::string claimed_user_;  // of pre-shared keys; not proven before the handshake is over
  Step step_ = Step::again;   // what the last one has come to
  std::string step_failure_;  // and why it failed
  bool stepping_ = false;  // a step belongs to another thread: the session, and no descriptor goes
  std::atomic<bool> closed_meanwhile_{false};  // by the owner
  bool established_ = false;
  bool drained_ = false;  // the last read has found nothing more

  // Small pieces are gathered into whole records here.
  std::unique_ptr<Record> gathered_;
  // A record that OpenSSL has begun to send and must be given again, from the same place.
  std::span<const std::byte> begun_;
  std::optional<ssize_t> end_;  // what every further read says: 0 or -errno
  bool broken_ = false;         // OpenSSL cannot go on, not even to say goodbye
};

}  // namespace server
