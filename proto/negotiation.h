// The handshake as a state machine without I/O. Bytes go in, bytes come out; whoever pumps them decides about
// sockets, deadlines and TLS. Used by one thread at a time. Spec: "Handshake", "TLS support", "Metadata querying".
//
// Bounds: an option's data is kept up to option_length_max; longer data is skipped without being stored and the
// option is answered with an error (ERR_UNSUP for unknown options, ERR_TOO_BIG otherwise).
#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "proto/constants.h"
#include "proto/request.h"

namespace proto {

// What a client is told of an export. `transmission_flags` are those of the device and the policy; the
// negotiation adds or removes what depends on the client: send_df (structured replies or more) and
// block_status_payload (extended headers).
struct ExportDescription {
  std::string name;         // canonical; never empty
  std::string description;  // for people; may be empty
  std::uint64_t size = 0;   // bytes
  std::uint16_t transmission_flags = 0;
  std::uint32_t block_size_minimum = 1;       // bytes
  std::uint32_t block_size_preferred = 4096;  // bytes
  std::uint32_t payload_length_max = 32U << 20;  // bytes
  bool tls_required = false;
};

// Where the negotiation looks exports up. Answers may depend on who asks; the object belongs to the connection.
class ExportDirectory {
 public:
  virtual ~ExportDirectory() = default;
  // What LIST may show. Called for each LIST.
  virtual std::vector<ExportDescription> list() = 0;
  // The empty name selects the default export. Nothing: no such export, or not for this client.
  virtual std::optional<ExportDescription> find(std::string_view name) = 0;
};

enum class TlsMode : std::uint8_t {
  off,      // STARTTLS answers ERR_UNSUP
  allow,    // SELECTIVETLS
  require,  // FORCEDTLS
};

// What the client and the server agreed on; complete once a step says `transmit`.
struct Negotiated {
  ExportDescription export_description;  // with the transmission flags as told to the client
  HeaderStyle header_style = HeaderStyle::simple;
  bool allocation_selected = false;  // base:allocation, for the export of the final GO
  bool tls = false;
};

class Negotiation {
 public:
  enum class Next : std::uint8_t {
    receive,    // everything was consumed; more bytes are needed
    start_tls,  // send the output, then do the TLS handshake, then call tls_started()
    transmit,   // send the output; the unconsumed input belongs to the transmission phase
    close,      // send the output, drain what the client still sends for a moment, then close
  };
  struct Progress {
    std::size_t consumed = 0;  // bytes of the input
    Next next = Next::receive;
  };

  // `directory` outlives the negotiation.
  Negotiation(ExportDirectory& directory, TlsMode tls_mode);

  // The greeting, to be sent first.
  static std::vector<std::byte> greeting();

  // Consumes input and appends replies to `output`. After start_tls, transmit or close no input is accepted
  // (start_tls: until tls_started()). Any split of the stream into calls gives the same output.
  Progress receive(std::span<const std::byte> input, std::vector<std::byte>& output);

  // TLS is up: forgets everything negotiated so far. Input that arrived in plaintext behind STARTTLS must have
  // been refused by the caller: it closes the connection when `consumed` did not cover all it had received.
  void tls_started();

  // The server is shutting down: options other than ABORT are answered with ERR_SHUTDOWN from now on.
  void shutdown() noexcept;

  // Options the client has sent so far; the caller bounds it.
  std::size_t option_count() const noexcept;

  // Valid after `transmit`.
  const Negotiated& result() const noexcept;

  // Why the connection is being closed or what was refused last, for the log; empty when nothing was.
  std::string_view reason() const noexcept;

  static constexpr std::size_t option_length_max = 64U << 10;  // bytes of data kept of one option

 private:
  // Implementation detail: free to change.
};

}  // namespace proto
