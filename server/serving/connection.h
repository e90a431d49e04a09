// The transmission phase of one client: frames requests out of the byte stream, hands them to the
// export's queue, and sends the replies. Belongs to one worker and is used on its thread only.
//
// Flow control: a request holds a slot and its buffers from its header to the last byte of its
// reply. Without them the connection does not receive, and TCP holds the client back. Spec:
// "Transmission phase".
#pragma once

#include <chrono>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "proto/negotiation.h"
#include "server/base/log.h"
#include "server/export/export_queue.h"
#include "server/net/transport.h"
#include "server/serving/handshake.h"
#include "server/serving/receive_buffer.h"
#include "server/serving/reply_queue.h"
#include "server/serving/request.h"
#include "server/serving/status.h"

namespace server {

class ConnectionHost;

class Connection : public std::enable_shared_from_this<Connection> {
 public:
  Connection(ConnectionHost& host, std::unique_ptr<Transport> transport, Handshake handshake);

  // Begins to serve requests.
  void start();
  // Its turn, after schedule(): parses, sends replies, and ends the connection when it is time to.
  void run();
  // Its turn, after wait_for_resources(): slots or buffers may be free.
  void resources_freed();
  // One of its operations has completed, with `length` or -errno.
  void complete(Request& piece, std::int64_t result) noexcept;

  // Takes no further requests; those that have arrived are answered, then the connection ends.
  void end_input() noexcept;
  // Drops everything but what the kernel still works on; ends when that is done.
  void abandon(std::string_view reason) noexcept;

  // Its export's queue is no longer held.
  void queue_released() noexcept;
  // The limits of its export have changed.
  void limits_changed() noexcept;

  std::uint64_t export_size() const noexcept { return rules_.export_size; }  // bytes
  const Export& target() const noexcept { return *target_; }
  ExportQueue& queue() const noexcept { return queue_; }
  bool encrypted() const noexcept { return encrypted_; }
  // The client has closed its side, perhaps with requests still unread.
  bool client_is_gone() const noexcept;
  std::uint64_t id() const noexcept { return arrival_; }  // unique while the process lives
  // Its handshake was over first; an order over all workers. Any thread.
  bool precedes(const Connection& other) const noexcept { return arrival_ < other.arrival_; }
  // For the watch over starvation: looks at the time since the last forget_progress().
  void forget_progress() noexcept { progressed_ = false; }
  // It waits for a client that has neither sent nor read anything.
  bool stalled() const noexcept;
  // It waits for memory or slots, has got none, and it is not for its client to change that.
  bool starving() const noexcept;

  // Nothing that it was sent can touch the export any more, though replies may still be on their
  // way.
  bool spent() const noexcept;

  // One of its requests, a whole, is under way for longer than is usual. Said once.
  void report_slow(Request& whole) const noexcept;

  ConnectionStatus status() const;

 private:
  enum class Phase : std::uint8_t {
    header,          // of the next request
    reading,         // pieces of a READ are still to be submitted
    payload,         // of a WRITE
    status_payload,  // of a BLOCK_STATUS
    discard,         // payload of a refused request
  };

  // connection.cpp: the stream
  void take_early_input() noexcept;
  bool wants_input() const noexcept;
  bool input_is_over() const noexcept;
  void wait_readable();
  void wait_writable();
  void receive_while_possible() noexcept;
  ssize_t receive_once() noexcept;
  void send_replies() noexcept;
  Request& interrupt_current() noexcept;
  void end_if_done() noexcept;
  void schedule() noexcept;
  void wait_for_resources() noexcept;

  // connection_limits.cpp
  bool limited() const noexcept;
  // Of what there is room for, as much as may be received now.
  std::size_t receivable(std::size_t room) const noexcept;
  // Whether a request may begin; if not, parsing goes on when it may.
  bool admit(const proto::RequestHeader& header) noexcept;
  Clock::time_point charge(const proto::RequestHeader& header) noexcept;
  void wait_for_limit();

  // connection_requests.cpp: from bytes to operations. Those that return bool say whether parsing
  // can go on; if not, bytes or resources are missing, or the connection has ended.
  void parse() noexcept;
  bool parse_header() noexcept;
  bool begin(Request& whole, std::uint64_t payload_length) noexcept;
  bool submit_read_pieces() noexcept;
  bool fill_write_pieces() noexcept;
  bool begin_write_piece() noexcept;
  bool parse_status_payload() noexcept;
  bool begin_block_status() noexcept;
  bool discard_payload() noexcept;
  bool discard(std::uint64_t length) noexcept;
  bool begin_current(Request& whole, Phase phase) noexcept;
  bool submit_whole(Request& whole, engine::Operation operation) noexcept;
  void submit(Request& piece) noexcept;
  Request* take_piece(engine::Operation operation, bool undivided) noexcept;
  void list_in_order(Request& piece) noexcept;
  Request* take_slot() noexcept;
  void give_back(Request& request) noexcept;
  void give_back_if_over(Request& whole) noexcept;
  void take_account(Request& whole) noexcept;
  void log_slow(const Request& whole) const noexcept;
  std::string_view stage_of(const Request& whole) const noexcept;
  log::Fields log_fields() const noexcept;
  log::Fields log_fields(const Request& whole) const noexcept;

  // connection_replies.cpp: from results to bytes
  void complete_read(Request& piece, bool success) noexcept;
  void complete_block_status(Request& whole, std::int64_t result) noexcept;
  void refuse(Request& whole, proto::Error error, std::string_view text) noexcept;
  void answer(Request& whole) noexcept;
  void answer_when_done(Request& whole) noexcept;
  void encode_read(Request& piece, bool done) noexcept;
  void send_in_order() noexcept;
  bool send_first_in_order() noexcept;
  void enqueue(Request& request) noexcept;
  void note_error(Request& whole, std::int64_t result) noexcept;
  proto::ReplyTo reply_to(const Request& whole) const noexcept;

  ConnectionHost& host_;
  const std::uint64_t arrival_;
  std::unique_ptr<Transport> transport_;
  const std::shared_ptr<Export> target_;
  ExportQueue& queue_;
  WriterLease lease_;  // until no more can come; who follows waits for what is in flight
  const proto::RequestRules rules_;
  const std::uint32_t block_size_;  // bytes: what requests are laid out for
  const std::shared_ptr<RateLimiter> client_limiter_;
  const Clock::time_point since_;
  const bool encrypted_;

  // Input.
  Clock::time_point received_at_;       // what received_ ends with
  std::vector<std::byte> early_input_;  // until received_ has room for it
  ReceiveBuffer received_;
  Phase phase_ = Phase::header;
  Request* current_ = nullptr;     // the request whose pieces or payload are under way
  Request* filling_ = nullptr;     // the piece that payload is received into
  std::size_t filled_ = 0;         // bytes of it
  std::uint64_t next_offset_ = 0;  // where the next piece of current_ begins
  std::uint64_t remaining_ =
      0;  // bytes of current_ without a piece; of a discarded payload, without consumption
  bool waiting_readable_ = false;
  bool drained_ = false;  // the last receive left nothing behind
  bool started_ = false;
  bool blocked_ = false;          // parsing waits for a slot or a buffer
  bool receive_blocked_ = false;  // there was no buffer to receive into
  bool input_ended_ = false;
  bool spent_told_ = false;            // to the worker
  bool payload_flag_missed_ = false;   // a WRITE lacked PAYLOAD_LEN, and the log says so
  bool charged_ = false;               // the request whose header is next
  Clock::time_point admitted_at_;      // that request
  std::unique_ptr<Timer> limit_wait_;  // with the first wait
  bool waiting_for_limit_ = false;

  // Output.
  ReplyQueue replies_;
  ReplyQueue held_back_;  // replies behind one that is sent in pieces without chunk headers
  Request* first_in_order_ = nullptr;  // READs whose pieces must leave in order
  Request* last_in_order_ = nullptr;
  bool waiting_writable_ = false;

  std::size_t slots_held_ = 0;
  std::size_t data_held_ = 0;  // bytes of the buffers of the slots
  std::size_t ios_in_flight_ = 0;
  std::uint64_t requests_in_flight_ = 0;
  std::uint64_t requests_answered_ = 0;
  std::uint64_t bytes_read_ = 0;     // by READs answered without an error
  std::uint64_t bytes_written_ = 0;  // by WRITEs, likewise
  std::chrono::nanoseconds latency_sum_{0};
  bool progressed_ = true;  // bytes have moved, or it got what it waited for
  bool scheduled_ = false;
  bool waiting_for_resources_ = false;
  bool broken_ = false;  // nothing can be sent any more
  bool finished_ = false;
};

}  // namespace server
