// The client's side of the handshake as a state machine without I/O: asks for one export with GO,
// and with EXPORT_NAME where a server does not know that. Simple replies, no metadata contexts, no
// TLS: what the kernel's client can use. Used by one thread at a time.
// Spec: "Handshake", "NBD_OPT_GO".
//
// Bounds: a reply's data and the number of replies, so that no server can make it store much or
// wait for ever.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "proto/constants.h"

namespace proto {

// The server's description of the export. Block sizes that it does not name are zero.
struct RemoteExport {
  std::uint64_t size = 0;  // bytes
  std::uint16_t transmission_flags = 0;
  std::uint32_t block_size_minimum = 0;    // bytes
  std::uint32_t block_size_preferred = 0;  // bytes
  std::uint32_t payload_length_max = 0;    // bytes
};

class ClientNegotiation {
 public:
  enum class Next : std::uint8_t {
    receive,   // send the output, then receive missing() bytes
    transmit,  // the transmission phase has begun
    failed,    // reason() says why
  };

  // The empty name asks for the server's default export. The name is valid_string().
  explicit ClientNegotiation(std::string export_name);

  // How many bytes have to be received before anything happens; nothing may be received beyond
  // them, since whatever follows the handshake belongs to the kernel. Zero when it is over.
  std::size_t missing() const noexcept { return missing_; }

  // Takes at most missing() bytes and appends to `output` what is to be sent. Any split of the
  // stream gives the same.
  Next receive(std::span<const std::byte> input, std::vector<std::byte>& output);

  // Valid after `transmit`.
  const RemoteExport& result() const noexcept { return result_; }
  // Why it failed, for people.
  std::string_view reason() const noexcept { return reason_; }

  static constexpr std::size_t reply_length_max = 16U << 10;  // bytes of data of one reply
  static constexpr std::size_t replies_max = 64;

 private:
  enum class State : std::uint8_t {
    greeting,
    reply_header,
    reply_data,
    export_information,  // the answer to EXPORT_NAME
    transmission,
    failed,
  };
  using Output = std::vector<std::byte>;

  void expect(State state, std::size_t size);
  void take_piece(Output& output);
  void take_greeting(Output& output);
  void take_reply_header();
  void take_reply(Output& output);
  void take_information();
  void take_refusal(OptionReply type, Output& output);
  void take_export_information();
  void ask(Option option, Output& output);
  void begin_transmission();
  void fail(std::string reason);

  const std::string export_name_;
  State state_ = State::greeting;
  std::vector<std::byte> piece_;  // what has been received of what must come as a whole
  std::size_t missing_ = 0;       // bytes
  bool no_zeroes_ = false;
  std::uint32_t reply_type_ = 0;
  std::size_t reply_count_ = 0;
  bool size_known_ = false;
  RemoteExport result_;
  std::string reason_;
};

}  // namespace proto
