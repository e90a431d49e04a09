// Takes a server's byte stream of the transmission phase apart, in pieces of any length and without
// collecting payloads. No I/O. Used by one thread. Spec: "Simple reply message", "Structured reply
// chunk message".
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <span>
#include <stdexcept>

namespace bench {

// The receiver of the replies; the parser's owner.
class ReplySink {
 public:
  // Bytes a read asked for, of any other request 0. The request must be in flight, else throws
  // ProtocolError.
  virtual std::uint32_t read_length(std::uint64_t cookie) = 0;
  // Some bytes of a read, `position` bytes into its range.
  virtual void content(std::uint64_t cookie, std::uint32_t position,
                       std::span<const std::byte> bytes) = 0;
  // The same for bytes that arrive as a hole.
  virtual void hole(std::uint64_t cookie, std::uint32_t position, std::uint32_t length) = 0;
  // The offset of a read in the export: structured chunks carry absolute ones.
  virtual std::uint64_t read_offset(std::uint64_t cookie) = 0;
  // The request failed with an NBD error; completed() follows, perhaps after chunks of other
  // replies.
  virtual void failed(std::uint64_t cookie, std::uint32_t error) = 0;
  // The reply is complete.
  virtual void completed(std::uint64_t cookie) = 0;

 protected:
  ~ReplySink() = default;
};

// The server broke the protocol; nothing that follows can be trusted.
class ProtocolError : public std::runtime_error {
  using std::runtime_error::runtime_error;
};

class ReplyParser {
 public:
  // `structured`: structured replies were negotiated, so that reads must not be answered by simple
  // ones.
  ReplyParser(ReplySink& sink, bool structured) noexcept : sink_(sink), structured_(structured) {}

  // Consumes all of `bytes`. Throws ProtocolError.
  void parse(std::span<const std::byte> bytes);

  // How many of the next bytes are nothing but content of a read; they may be discarded unseen with
  // skip().
  std::uint32_t content_remaining() const noexcept {
    return state_ == State::content ? remaining_ : 0;
  }
  void skip(std::uint32_t length);
  // Whose content that is.
  std::uint64_t content_cookie() const noexcept { return cookie_; }

 private:
  enum class State : std::uint8_t {
    header,
    chunk_length,
    content_offset,
    content,
    hole,
    error,
    error_rest
  };

  // The next `length` bytes in one piece, or nullptr until that many have come. Moves `bytes` on.
  const std::byte* take(std::span<const std::byte>& bytes, std::size_t length);
  void step(std::span<const std::byte>& bytes);
  void begin_reply(const std::byte* header);
  void begin_chunk(std::uint32_t length);
  void begin_content(std::uint64_t offset);
  void take_hole(const std::byte* payload);
  std::uint32_t position_of(std::uint64_t offset, std::uint64_t length);
  void end_chunk();

  ReplySink& sink_;
  const bool structured_;
  State state_ = State::header;
  std::uint64_t cookie_ = 0;
  std::uint32_t position_ = 0;   // content: into the read's range
  std::uint32_t remaining_ = 0;  // content, error_rest: bytes still to come
  std::uint16_t chunk_type_ = 0;
  bool done_ = false;  // the current chunk is the reply's last
  std::array<std::byte, 16> partial_{};
  std::size_t partial_length_ = 0;
};

}  // namespace bench
