// The transmission phase of one client: its transport, its life and its flow control. The framer
// finds requests in what is received, the submitter hands them to the export's queue, the reply
// writer puts the replies in order. Belongs to one worker and is used on its thread only.
//
// Flow control: a request holds a slot and its buffers from its header to the last byte of its
// reply. Without them the connection does not receive, and TCP holds the client back. Spec:
// "Transmission phase".
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <optional>
#include <string_view>
#include <vector>

#include "proto/negotiation.h"
#include "server/export/export_queue.h"
#include "server/net/transport.h"
#include "server/serving/account.h"
#include "server/serving/admission.h"
#include "server/serving/client_state.h"
#include "server/serving/handshake.h"
#include "server/serving/progress.h"
#include "server/serving/reply_writer.h"
#include "server/serving/request.h"
#include "server/serving/request_framer.h"
#include "server/serving/request_rules.h"
#include "server/serving/request_slots.h"
#include "server/serving/request_submitter.h"
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
  void complete(Piece& piece, std::int64_t result) noexcept;

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
  std::uint64_t ticket() const noexcept { return transport_->client().ticket; }
  // As the client was told.
  bool read_only() const noexcept { return is_read_only(rules_.transmission_flags); }
  std::uint64_t id() const noexcept { return arrival_; }  // unique while the process lives
  // Its handshake was over first; an order over all workers. Any thread.
  bool precedes(const Connection& other) const noexcept { return arrival_ < other.arrival_; }
  // For the watch over starvation: the next two are about the time from now on.
  void begin_progress() noexcept;
  // As far as it is for its client to go on.
  Progress progress() const noexcept;
  // It waits for memory or slots, has got none, and it is not for its client to change that.
  bool starving() const noexcept {
    return !progressed_ && waiting_for_resources_ && !waiting_writable_;
  }
  // No memory is held for its requests.
  bool holds_nothing() const noexcept { return slots_.bytes_held() == 0; }
  // Sends what there is room for, before the kernel says that there is much.
  void push_replies() noexcept;

  // To be asked before it is started, when later clients were served already: its client is gone,
  // and has left requests that may change the export.
  bool is_late() noexcept;
  // Where its requests come from.
  int input_descriptor() noexcept { return transport_->input_descriptor(); }
  // The client has closed its side, perhaps with requests still unread.
  void note_client_gone() noexcept;
  // Nothing that it was sent can change the export any more, though it may read on, and replies may
  // still be on their way.
  bool spent() const noexcept;

  // One of its requests is under way for longer than is usual. Said once.
  void report_slow(Request& request) noexcept;

  ConnectionStatus status() const;
  // Nothing while anything is in flight, or when it has ended.
  std::optional<ClientState> state() const;

 private:
  // Only moves forward.
  enum class Life : std::uint8_t {
    admitted,  // takes no requests yet: dead predecessors may have some under way
    serving,
    ending,  // nothing further is received; what has arrived is answered
    broken,  // nothing can be sent any more; waits for its operations
    over,    // its worker has removed it
  };
  void set_life(Life next) noexcept;

  void take_early_input() noexcept;
  bool wants_input() const noexcept;
  bool input_is_over() const noexcept;
  bool may_have_unread_changes() const noexcept;
  void wait_readable();
  void wait_writable();
  void receive_while_possible() noexcept;
  ssize_t receive_once() noexcept;
  void send_replies() noexcept;
  bool send_some() noexcept;
  std::size_t held_for_client() const noexcept;

  void parse() noexcept;
  Need parse_step() noexcept;
  Need begin_next() noexcept;
  Need begin(Request& request) noexcept;
  Need begin_block_status() noexcept;
  bool admit(const proto::RequestHeader& header) noexcept;
  void interrupt_payload() noexcept;
  void wait_until_admitted() noexcept;
  void wait_broken() noexcept;

  void end_if_done() noexcept;
  void schedule() noexcept;
  void wait_for_resources() noexcept;
  std::string_view stage_of(const Request& request) const noexcept;

  ConnectionHost& host_;
  const std::uint64_t arrival_;
  std::unique_ptr<Transport> transport_;
  const std::shared_ptr<Export> target_;
  ExportQueue& queue_;
  WriterLease lease_;  // until no more can come; a successor waits for what is in flight
  const proto::Negotiated negotiated_;
  const proto::RequestRules rules_;
  const Clock::time_point since_;
  const bool encrypted_;
  Life life_ = Life::admitted;

  Account account_;
  Admission admission_;
  RequestSlots slots_;
  ReplyWriter replies_;
  RequestSubmitter submitter_;
  RequestFramer framer_;

  ProgressMeter meter_;
  Clock::time_point received_at_;       // what the framer's bytes end with
  std::vector<std::byte> early_input_;  // until the framer has room for it
  bool waiting_readable_ = false;
  bool waiting_writable_ = false;
  bool waiting_broken_ = false;       // until the end, once it has begun
  bool drained_ = false;              // the last receive left nothing behind
  bool blocked_ = false;              // parsing waits for something else than bytes
  bool receive_blocked_ = false;      // there was no buffer to receive into
  bool payload_flag_missed_ = false;  // a WRITE lacked PAYLOAD_LEN, and the log says so
  bool progressed_ = true;            // bytes have moved, or it got what it waited for
  bool client_is_gone_ = false;       // it has closed its side
  bool scheduled_ = false;
  bool waiting_for_resources_ = false;
  bool waiting_for_limit_ = false;
  std::unique_ptr<Timer> limit_wait_;  // with the first wait
};

}  // namespace server
