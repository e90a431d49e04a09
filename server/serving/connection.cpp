#include "server/serving/connection.h"

#include <algorithm>
#include <atomic>
#include <cerrno>
#include <cstring>
#include <utility>

#include "server/base/log.h"
#include "server/serving/connection_host.h"

namespace server {
namespace {

proto::RequestRules rules_of(const proto::Negotiated& negotiated) {
  auto rules = proto::RequestRules{};
  rules.export_size = negotiated.export_description.size;
  rules.transmission_flags = negotiated.export_description.transmission_flags;
  rules.header_style = negotiated.header_style;
  rules.payload_length_max = negotiated.export_description.payload_length_max;
  rules.block_status_selected = negotiated.allocation_selected;
  return rules;
}

std::uint64_t next_arrival() noexcept {
  static std::atomic<std::uint64_t> count{0};
  return count.fetch_add(1, std::memory_order_relaxed);
}

}  // namespace

void Request::complete(std::int64_t result) noexcept { connection->complete(*this, result); }

Connection::Connection(ConnectionHost& host, std::unique_ptr<Transport> transport,
                       Handshake handshake)
    : host_(host),
      arrival_(next_arrival()),
      transport_(std::move(transport)),
      target_(std::move(handshake.target)),
      queue_(host.queue_of(*target_)),
      lease_(std::move(handshake.lease)),
      rules_(rules_of(handshake.negotiated)),
      block_size_(std::max(queue_.device->geometry().block_size, request_alignment)),
      client_limiter_(target_->limiter().for_client(transport_->client().host)),
      since_(Clock::now()),
      encrypted_(!transport_->protection().empty()),
      received_at_(since_),
      early_input_(std::move(handshake.early_input)) {}

void Connection::start() {
  if (finished_) return;
  started_ = true;
  log::connection(
      log_fields(), "{}: attached to \"{}\"{}", transport_->peer(), target_->name(),
      (rules_.transmission_flags & proto::transmission_flag::read_only) != 0 ? ", read-only" : "");
  schedule();
}

bool Connection::client_is_gone() const noexcept {
  return broken_ || input_ended_ || finished_ || transport_->peer_has_closed();
}

bool Connection::stalled() const noexcept {
  return !progressed_ && (waiting_writable_ || (filling_ != nullptr && !blocked_));
}

bool Connection::starving() const noexcept {
  return !progressed_ && waiting_for_resources_ && !waiting_writable_;
}

// Nothing comes any more, and all that came has been looked at.
bool Connection::input_is_over() const noexcept {
  return broken_ || (input_ended_ && !blocked_ && early_input_.empty());
}

bool Connection::spent() const noexcept {
  return finished_ || (input_is_over() && ios_in_flight_ == 0);
}

void Connection::schedule() noexcept {
  if (!std::exchange(scheduled_, true)) host_.schedule(*this);
}

void Connection::run() {
  scheduled_ = false;
  if (finished_) return;
  take_early_input();
  // What parsing refuses is ready to be sent at once, and what is sent makes room to parse on.
  do {
    send_replies();
    parse();
  } while (!replies_.empty() && !waiting_writable_ && !broken_);
  received_.release_if_possible();
  if (wants_input()) wait_readable();
  end_if_done();
}

void Connection::resources_freed() {
  waiting_for_resources_ = false;
  // Tries at once: to wait for the socket, which is readable, would go round in circles as long as
  // there is no buffer.
  if (std::exchange(receive_blocked_, false)) {
    blocked_ = false;
    receive_while_possible();
  }
  run();
  if (!waiting_for_resources_) progressed_ = true;
}

void Connection::take_early_input() noexcept {
  if (early_input_.empty()) return;
  if (!received_.make_room(host_.buffers(), data_held_)) {
    wait_for_resources();
    return;
  }
  // The handshake receives less at a time than the smallest buffer holds.
  const auto room = received_.room();
  std::memcpy(room.data(), early_input_.data(), std::min(room.size(), early_input_.size()));
  received_.received(early_input_.size());
  early_input_ = {};
  host_.read_clock();
  received_at_ = host_.now();
}

bool Connection::wants_input() const noexcept {
  return !input_ended_ && !broken_ && !blocked_ && early_input_.empty();
}

void Connection::wait_readable() {
  if (std::exchange(waiting_readable_, true)) return;
  auto go_on = [self = shared_from_this()](const boost::system::error_code& failure) {
    self->waiting_readable_ = false;
    if (failure || self->finished_ || self->broken_) return;
    self->receive_while_possible();
    self->schedule();
  };
  if (transport_->has_buffered_input()) {
    asio::post(host_.io_context(),
               [go_on = std::move(go_on)] { go_on(boost::system::error_code{}); });
  } else {
    transport_->wait_readable(std::move(go_on));
  }
}

void Connection::wait_writable() {
  if (std::exchange(waiting_writable_, true)) return;
  transport_->wait_writable([self = shared_from_this()](const boost::system::error_code& failure) {
    self->waiting_writable_ = false;
    if (failure || self->finished_ || self->broken_) return;
    self->schedule();
  });
}

void Connection::receive_while_possible() noexcept {
  auto received = std::size_t{0};
  while (wants_input() && received < host_.bounds().receive_size_max_per_turn) {
    const auto count = receive_once();
    if (count <= 0) return;
    received += static_cast<std::size_t>(count);
    parse();
    if (drained_) return;
  }
}

ssize_t Connection::receive_once() noexcept {
  auto vectors = std::array<iovec, 2>{};
  auto count = std::size_t{0};
  auto offered = std::size_t{0};
  if (filling_ != nullptr) {
    offered = static_cast<std::size_t>(filling_->length) - filled_;
    vectors[count++] = {.iov_base = filling_->buffer + filled_, .iov_len = offered};
  }
  // Behind the last piece of a payload the next headers may follow; in front of it all bytes have a
  // better place.
  const auto direct = offered;
  if (filling_ == nullptr || remaining_ == 0) {
    if (received_.make_room(host_.buffers(), data_held_)) {
      auto room = received_.room();
      // Behind a long payload comes, as a rule, the header of the next: its payload, too, belongs
      // where it is to be written from, without a copy.
      if (filling_ != nullptr && filling_->length >= ReceiveBuffer::long_payload_min)
        room = room.first(proto::request_size(rules_.header_style));
      room = room.first(receivable(room.size()));
      vectors[count++] = {.iov_base = room.data(), .iov_len = room.size()};
      offered += room.size();
    } else if (filling_ == nullptr) {
      receive_blocked_ = true;
      wait_for_resources();
      return -EAGAIN;
    }
  }
  const auto received = transport_->read_some(std::span(vectors).first(count));
  if (received > 0) {
    host_.read_clock();
    received_at_ = host_.now();
    const auto size = static_cast<std::size_t>(received);
    progressed_ = true;
    filled_ += std::min(size, direct);
    if (size > direct) received_.received(size - direct);
    drained_ = size < offered;
  } else if (received == 0) {
    end_input();
  } else if (received != -EAGAIN) {
    abandon(std::strerror(static_cast<int>(-received)));
  }
  return received;
}

void Connection::send_replies() noexcept {
  while (!replies_.empty() && !broken_ && !waiting_writable_) {
    const auto vectors = replies_.gather(host_.gather_buffer());
    auto offered = std::size_t{0};
    for (const auto& vector : vectors) offered += vector.iov_len;
    const auto sent = transport_->write_some(vectors);
    if (sent < 0 && sent != -EAGAIN) return abandon(std::strerror(static_cast<int>(-sent)));
    host_.read_clock();
    if (sent > 0) {
      progressed_ = true;
      replies_.consume(static_cast<std::size_t>(sent), [this](Request& request) {
        if (request.whole == &request) take_account(request);
        give_back(request);
      });
    }
    if (sent < static_cast<ssize_t>(offered)) wait_writable();
  }
}

void Connection::complete(Request& piece, std::int64_t result) noexcept {
  auto& whole = *piece.whole;
  --ios_in_flight_;
  --whole.pieces_in_flight;
  whole.completed_at = host_.now();
  if (result < 0) note_error(whole, result);
  if (broken_) {
    if (&piece != &whole) give_back(piece);
    give_back_if_over(whole);
  } else if (whole.header.command == proto::Command::read) {
    complete_read(piece, result >= 0);
  } else if (whole.header.command == proto::Command::block_status) {
    complete_block_status(whole, result);
  } else {
    if (&piece != &whole) give_back(piece);
    answer_when_done(whole);
  }
  schedule();
}

void Connection::end_input() noexcept {
  if (std::exchange(input_ended_, true)) return;
  lease_.release();
  if (!started_) early_input_ = {};
  if (phase_ == Phase::payload || phase_ == Phase::status_payload) {
    // The rest of the payload will not come; what was written of it was never acknowledged.
    auto& whole = interrupt_current();
    answer_when_done(whole);
  }
  schedule();
}

Request& Connection::interrupt_current() noexcept {
  auto& whole = *std::exchange(current_, nullptr);
  whole.all_submitted = true;
  if (whole.error == proto::Error::none) {
    whole.error = proto::Error::shutdown;
    whole.error_text = "the connection ended before the request was complete";
  }
  if (auto* const piece = std::exchange(filling_, nullptr); piece != nullptr && piece != &whole)
    give_back(*piece);
  phase_ = Phase::header;
  remaining_ = 0;
  return whole;
}

void Connection::abandon(std::string_view reason) noexcept {
  if (std::exchange(broken_, true) || finished_) return;
  log::connection(log_fields(), "{}: disconnected from \"{}\": {}", transport_->peer(),
                  target_->name(), reason);
  input_ended_ = true;
  lease_.release();
  early_input_ = {};
  if (current_ != nullptr) {
    auto& whole = interrupt_current();
    if (!whole.in_order) give_back_if_over(whole);
  }
  while (!replies_.empty()) give_back(replies_.pop());
  while (!held_back_.empty()) give_back(held_back_.pop());
  while (first_in_order_ != nullptr) {
    auto& whole = *first_in_order_;
    first_in_order_ = whole.next_in_order;
    for (auto* piece = whole.first_piece; piece != nullptr;) {
      auto* const next = piece->next;
      if (piece->completed) give_back(*piece);  // those in flight go when they complete
      piece = next;
    }
    give_back_if_over(whole);
  }
  transport_->close();
  schedule();
}

void Connection::end_if_done() noexcept {
  if (spent() && !std::exchange(spent_told_, true)) host_.note_spent();
  if (slots_held_ > 0 || ios_in_flight_ > 0 || !input_is_over()) return;
  finished_ = true;
  if (limit_wait_ != nullptr) limit_wait_->cancel();  // its handler would keep it for as long
  if (broken_) return host_.remove(*this, nullptr);
  log::connection(log_fields(), "{}: detached from \"{}\"", transport_->peer(), target_->name());
  transport_->cancel_waits();
  host_.remove(*this, std::move(transport_));
}

void Connection::wait_for_resources() noexcept {
  blocked_ = true;
  if (!std::exchange(waiting_for_resources_, true)) host_.wait_for_resources(*this);
}

}  // namespace server
