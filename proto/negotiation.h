// The handshake as a state machine without I/O. Bytes go in, bytes come out; whoever pumps them
// decides about sockets, deadlines and TLS. Used by one thread at a time.
// Spec: "Handshake", "TLS support", "Metadata querying".
//
// Bounds: an option's data is kept up to option_length_max; longer data is skipped without being
// stored and the option is answered with an error (ERR_UNSUP for unknown options, ERR_TOO_BIG
// otherwise), up to skipped_length_max in all. The answers to one call of receive() are bounded by
// the options in its input, each at most a LIST: feed a few KiB at a time and stop while answers
// cannot be sent.
#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "proto/constants.h"
#include "proto/meta_context.h"
#include "proto/request.h"

namespace proto {

// The description of an export for a client. `transmission_flags` are those of the device and the
// policy; the negotiation sets has_flags and decides what depends on the client: send_df
// (structured replies or more) and block_status_payload (extended headers).
struct ExportDescription {
  std::string name;         // canonical; never empty; valid_string()
  std::string description;  // for people; may be empty; valid_string()
  std::uint64_t size = 0;   // bytes
  std::uint16_t transmission_flags = 0;
  std::uint32_t block_size_minimum = 1;          // bytes
  std::uint32_t block_size_preferred = 4096;     // bytes
  std::uint32_t payload_length_max = 32U << 20;  // bytes
  bool tls_required = false;
  std::vector<MetaContext> contexts;  // at most meta_contexts_max
};

// Where the negotiation looks exports up. Answers may depend on who asks; the object belongs to the
// connection.
class ExportDirectory {
 public:
  virtual ~ExportDirectory() = default;
  // The exports that LIST may show. Called for each LIST.
  virtual std::vector<ExportDescription> list() = 0;
  // The empty name selects the default export. Nothing: no such export, or not for this client.
  virtual std::optional<ExportDescription> find(std::string_view name) = 0;
  // The client enters the transmission phase with what find() has just found: how it is served.
  virtual ExportDescription choose(const ExportDescription& found) { return found; }
};

enum class TlsMode : std::uint8_t {
  off,      // STARTTLS answers ERR_UNSUP
  allow,    // SELECTIVETLS
  require,  // FORCEDTLS
};

// The result of the negotiation; complete once a step says `transmit`.
struct Negotiated {
  ExportDescription export_description;  // with the transmission flags as told to the client
  HeaderStyle header_style = HeaderStyle::simple;
  ContextIds contexts;  // those selected for the export of the final GO
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

  // For options from now on.
  void set_tls_mode(TlsMode mode) noexcept { tls_mode_ = mode; }

  // Consumes input and appends replies to `output`. After start_tls, transmit or close no input is
  // accepted (start_tls: until tls_started()). Any split of the stream into calls gives the same
  // output.
  Progress receive(std::span<const std::byte> input, std::vector<std::byte>& output);

  // TLS is up: forgets everything negotiated so far but the client flags, which are not sent again.
  // Input that arrived in plaintext behind STARTTLS must have been refused by the caller: it closes
  // the connection when `consumed` did not cover all it had received.
  void tls_started();

  // The server is shutting down: options other than ABORT are answered with ERR_SHUTDOWN from now
  // on.
  void shutdown() noexcept;

  // Options the client has sent so far; the caller bounds it.
  std::size_t option_count() const noexcept;

  // So many bytes of input may be passed to receive() at once and cost no more than their passing:
  // they are data of an option that is not kept.
  std::size_t skippable() const noexcept;

  // Valid after `transmit`.
  const Negotiated& result() const noexcept;

  // Why the connection is being closed or what was refused last, for the log; empty when nothing
  // was. Valid until the next call of receive().
  std::string_view reason() const noexcept;

  static constexpr std::size_t option_length_max = 64U << 10;  // bytes of data kept of one option
  // Bytes of data of all options of a client together that are not kept. An option that is
  // announced with more is answered with ERR_TOO_BIG at once, and the connection is closed: its
  // data is not waited for.
  static constexpr std::uint64_t skipped_length_max = 4U << 20;

 private:
  enum class State : std::uint8_t {
    client_flags,   // a piece: what is received as a whole before anything is done about it
    option_header,  // a piece
    option_data,    // a piece
    tls_handshake,
    transmission,
    closed,
  };

  using Output = std::vector<std::byte>;
  using Payload = std::span<const std::byte>;

  bool receives_pieces() const noexcept;
  void expect_piece(State state, std::size_t length, bool kept);
  void take_piece(Output& output);
  void take_client_flags();
  void take_option_header(Output& output);
  void answer_option(Output& output);
  void answer_option_with_data(Payload payload, Output& output);
  void answer_option_without_data(Output& output);

  void answer_export_name(Payload payload, Output& output);
  void answer_info(Payload payload, Output& output);
  void answer_meta_context(Payload payload, Output& output);
  void answer_list(Output& output);
  void answer_start_tls(Output& output);

  // Looks an export up for the option at hand; answers with an error when there is nothing to see.
  std::optional<ExportDescription> find_export(std::string_view name, Output& output);
  void enter_transmission(const ExportDescription& found, std::string_view asked_name);

  // Answers with an error, or closes where the option cannot be answered with one (EXPORT_NAME).
  void refuse(OptionReply error, std::string_view text, Output& output);
  void close(std::string_view reason);

  bool tls_possible() const noexcept;
  bool tls_missing(const ExportDescription& description) const noexcept;
  std::uint16_t told_transmission_flags(const ExportDescription& description) const noexcept;

  ExportDirectory& directory_;
  TlsMode tls_mode_;
  bool fixed_newstyle_ = false;
  bool no_zeroes_ = false;
  bool shutting_down_ = false;

  State state_ = State::client_flags;
  std::vector<std::byte> piece_;   // what has been received of the piece, if it is kept
  std::size_t piece_missing_ = 0;  // bytes
  bool piece_kept_ = true;

  Option option_ = Option::abort;  // the one being received or answered
  std::uint32_t option_length_ = 0;
  std::size_t option_count_ = 0;
  std::uint64_t skipped_length_ = 0;  // bytes

  ContextIds selected_contexts_;       // by the last SET_META_CONTEXT
  std::string selection_export_name_;  // as the client wrote it there
  Negotiated negotiated_;
  std::string reason_;
};

}  // namespace proto
