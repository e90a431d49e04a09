#include "server/serving/connection.h"

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <utility>

#include "engine/check.h"
#include "server/base/log.h"
#include "server/serving/connection_host.h"
#include "server/serving/unread_requests.h"

namespace server {

void Piece::complete(std::int64_t result) noexcept { request->connection->complete(*this, result); }

Connection::Connection(ConnectionHost& host, std::unique_ptr<Transport> transport,
                       Handshake handshake)
    : host_(host),
      arrival_(handshake.state.arrival),
      transport_(std::move(transport)),
      target_(std::move(handshake.target)),
      queue_(host.queue_of(*target_)),
      lease_(std::move(handshake.lease)),
      negotiated_(std::move(handshake.state.negotiated)),
      rules_(rules_of(negotiated_)),
      since_(handshake.state.since),
      encrypted_(!transport_->protection().empty()),
      account_(queue_, *target_, transport_->peer(), host.bounds().slow_request,
               handshake.state.totals),
      admission_(target_->limiter(), target_->limiter().for_client(transport_->client().host)),
      slots_(*this, host, queue_.metrics()),
      replies_(rules_.header_style, slots_),
      submitter_(host, queue_, slots_, replies_, rules_.header_style),
      framer_(rules_.header_style),
      received_at_(Clock::now()),
      early_input_(std::move(handshake.state.unread)) {
  // Bytes that a reply lacks would have to leave before all others.
  LOOPNBD_ASSERT(handshake.state.unsent.empty());
  if (handshake.state.admitted_at) admission_.resume(*handshake.state.admitted_at);
  framer_.resume(handshake.state.discard_left);
}

void Connection::set_life(Life next) noexcept {
  LOOPNBD_ASSERT(next > life_);
  const auto took_requests = std::exchange(life_, next) < Life::ending;
  if (!took_requests || life_ < Life::ending) return;
  lease_.release();
  if (!read_only()) host_.note_ending(*this);
}

void Connection::start() {
  if (life_ != Life::admitted) return;
  set_life(Life::serving);
  log::connection(account_.fields(), "{}: attached to \"{}\"{}", account_.peer(), target_->name(),
                  read_only() ? ", read-only" : "");
  schedule();
}

// Bytes that wait until the client reads, or sends the rest.
std::size_t Connection::held_for_client() const noexcept {
  const auto waits_for_rest = !blocked_ && (submitter_.filling() || framer_.held() > 0);
  return waiting_writable_ || waits_for_rest ? slots_.bytes_held() + framer_.held() : 0;
}

void Connection::begin_progress() noexcept {
  progressed_ = false;
  meter_.begin(held_for_client(), [this] { return transport_->unsent(); });
}

Progress Connection::progress() const noexcept {
  return meter_.progress(held_for_client(), [this] { return transport_->unsent(); });
}

// Nothing comes any more, and all that came has been looked at.
bool Connection::input_is_over() const noexcept {
  return life_ >= Life::broken || (life_ == Life::ending && !blocked_ && early_input_.empty());
}

bool Connection::spent() const noexcept {
  if (life_ == Life::over || read_only()) return true;
  return submitter_.changes_in_flight() == 0 && !may_have_unread_changes();
}

void Connection::note_client_gone() noexcept {
  client_is_gone_ = true;
  // One that does not wait for answers was told of no write that has not begun.
  if (life_ < Life::broken && !spent() && transport_->is_broken()) abandon("it was reset");
}

bool Connection::is_late() noexcept {
  client_is_gone_ = transport_->peer_has_closed();
  return client_is_gone_ && !spent();
}

// A request that changes the export is not submitted in full, or may come next: it was received and
// not begun, or lies in the socket, or may still be sent.
bool Connection::may_have_unread_changes() const noexcept {
  if (life_ >= Life::broken) return false;
  const auto* const current = submitter_.current();
  if (current != nullptr && changes(current->header.command)) return true;
  if (framer_.phase() != RequestFramer::Phase::header) return true;
  const auto received = early_input_.empty() ? framer_.unread() : std::span(early_input_);
  if (life_ == Life::ending) return may_change(received, rules_);
  if (!client_is_gone_) return true;
  return may_change(received, *transport_, rules_);
}

void Connection::schedule() noexcept {
  if (!std::exchange(scheduled_, true)) host_.schedule(*this);
}

void Connection::run() {
  scheduled_ = false;
  if (life_ == Life::over) return;
  take_early_input();
  // Parsing may refuse requests, whose replies are ready at once; sending makes room to parse on.
  do {
    send_replies();
    parse();
  } while (!replies_.empty() && !waiting_writable_ && life_ < Life::broken);
  framer_.release_buffer_if_possible();
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

void Connection::queue_released() noexcept {
  // A connection that has not been started waits for something else.
  if (life_ != Life::admitted) schedule();
}

void Connection::limits_changed() noexcept {
  admission_.forget();
  if (limit_wait_ != nullptr) limit_wait_->cancel();
}

void Connection::take_early_input() noexcept {
  if (early_input_.empty()) return;
  // The handshake receives less at a time than the smallest buffer holds.
  if (!framer_.append(host_.buffers(), slots_.bytes_held(), early_input_)) {
    wait_for_resources();
    return;
  }
  early_input_ = {};
  host_.read_clock();
  received_at_ = host_.now();
}

bool Connection::wants_input() const noexcept {
  return life_ < Life::ending && !blocked_ && early_input_.empty();
}

void Connection::wait_readable() {
  if (std::exchange(waiting_readable_, true)) return;
  auto readable = [self = shared_from_this()](const boost::system::error_code& failure) {
    self->waiting_readable_ = false;
    if (failure || self->life_ >= Life::broken) return;
    self->receive_while_possible();
    self->schedule();
  };
  if (transport_->has_buffered_input()) {
    asio::post(host_.io_context(),
               [readable = std::move(readable)] { readable(boost::system::error_code{}); });
  } else {
    transport_->wait_readable(std::move(readable));
  }
}

void Connection::wait_writable() {
  if (std::exchange(waiting_writable_, true)) return;
  slots_.set_congested(true);
  transport_->wait_writable([self = shared_from_this()](const boost::system::error_code& failure) {
    self->waiting_writable_ = false;
    self->slots_.set_congested(false);
    if (failure || self->life_ >= Life::broken) return;
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
  // A connection that waits for its limits gets no more than the header of the request that waits,
  // which takes no buffer from others.
  const auto room = framer_.room(host_.buffers(), slots_.bytes_held(), admission_.limited());
  if (room.count == 0) {
    receive_blocked_ = true;
    wait_for_resources();
    return -EAGAIN;
  }
  const auto received = transport_->read_some(room.parts());
  if (received > 0) {
    host_.read_clock();
    received_at_ = host_.now();
    const auto size = static_cast<std::size_t>(received);
    progressed_ = true;
    meter_.count(size);
    framer_.received(size);
    drained_ = size < room.size;
  } else if (received == 0) {
    end_input();
  } else if (received != -EAGAIN) {
    abandon(std::strerror(static_cast<int>(-received)));
  }
  return received;
}

void Connection::parse() noexcept {
  blocked_ = receive_blocked_ && life_ < Life::ending;
  auto need = Need::nothing;
  while (need == Need::nothing && life_ < Life::broken) need = parse_step();
  // A request that had waited to begin when the input ended.
  if (need == Need::bytes && life_ == Life::ending) interrupt_payload();
  if (need == Need::resources) {
    wait_for_resources();
  } else if (need == Need::replies || need == Need::admission) {
    blocked_ = true;
  }
}

Need Connection::parse_step() noexcept {
  switch (framer_.phase()) {
    case RequestFramer::Phase::header:
      return submitter_.current() == nullptr ? begin_next() : submitter_.resume();
    case RequestFramer::Phase::payload:
      return submitter_.fill(framer_);
    case RequestFramer::Phase::block_status_payload:
      return begin_block_status();
    case RequestFramer::Phase::discarded_payload:
      return framer_.discard() ? Need::nothing : Need::bytes;
  }
  return Need::bytes;
}

Need Connection::begin_next() noexcept {
  const auto front = framer_.look();
  if (front == RequestFramer::Front::incomplete) return Need::bytes;
  if (front == RequestFramer::Front::broken) {
    abandon("a request with a wrong magic number");
    return Need::bytes;
  }
  const auto& header = framer_.header();
  const auto verdict = proto::validate(header, rules_);
  if (verdict.disconnect) {
    abandon(verdict.reason);
    return Need::bytes;
  }
  if (header.command == proto::Command::disconnect) {
    framer_.drop_unread();  // nothing may follow
    if (life_ < Life::ending) set_life(Life::ending);
    return Need::bytes;
  }
  if (verdict.payload_flag_missing && !std::exchange(payload_flag_missed_, true))
    log::debug(account_.fields(), "{}: writes with extended headers, but without PAYLOAD_LEN",
               account_.peer());
  // A refused request moves no byte: it neither waits for limits nor takes from them.
  if (verdict.error == proto::Error::none && !admit(header)) return Need::admission;
  auto* const request = slots_.take_request(header);
  if (request == nullptr) return slots_.need();
  admission_.forget();
  framer_.begin(verdict);
  request->received = request->submitted = request->completed_at = received_at_;
  if (verdict.error == proto::Error::none) return begin(*request);
  log::debug(account_.fields(*request), "{}: refused: {}", account_.peer(), verdict.reason);
  replies_.refuse(*request, verdict.error, verdict.reason);
  return Need::nothing;
}

Need Connection::begin(Request& request) noexcept {
  const auto has_payload = framer_.phase() != RequestFramer::Phase::header;
  const auto concerns_range = request.header.command != proto::Command::flush;
  if (concerns_range && request.header.length == 0 && !has_payload) {
    replies_.answer(request);
    return Need::nothing;
  }
  if (request.header.command == proto::Command::block_status)
    request.contexts = negotiated_.contexts;  // a payload may name some of them
  return submitter_.begin(request, has_payload);
}

Need Connection::begin_block_status() noexcept {
  const auto bytes = framer_.take_block_status_payload();
  if (!bytes) return Need::bytes;
  const auto payload = proto::parse_block_status_payload(*bytes, negotiated_.contexts);
  auto& header = submitter_.current()->header;
  const auto valid = payload && payload->effect_length > 0 && !payload->contexts.empty() &&
                     header.offset <= rules_.export_size &&
                     payload->effect_length <= rules_.export_size - header.offset;
  if (!valid) {
    replies_.refuse(
        submitter_.drop_current(), proto::Error::invalid,
        "the payload of BLOCK_STATUS does not fit the request or the selected contexts");
    return Need::nothing;
  }
  header.length = payload->effect_length;
  submitter_.current()->contexts = payload->contexts;
  return submitter_.resume();
}

bool Connection::admit(const proto::RequestHeader& header) noexcept {
  if (queue_.held()) return false;  // queue_released() will come
  // A connection that ends has little left, and somebody may wait for its end.
  if (life_ >= Life::ending || !admission_.limited()) return true;
  const auto now = Clock::now();
  if (admission_.charge(header, now) <= now) return true;
  wait_until_admitted();
  return false;
}

void Connection::wait_until_admitted() noexcept {
  wait_broken();
  if (std::exchange(waiting_for_limit_, true)) return;
  if (limit_wait_ == nullptr) limit_wait_ = std::make_unique<Timer>(host_.io_context());
  limit_wait_->expires_at(admission_.admitted_at());
  limit_wait_->async_wait([self = shared_from_this()](const boost::system::error_code&) {
    self->waiting_for_limit_ = false;
    if (self->life_ < Life::broken) self->schedule();
  });
}

// A client that is gone must not keep others waiting for what its request was charged.
void Connection::wait_broken() noexcept {
  if (std::exchange(waiting_broken_, true)) return;
  transport_->wait_broken([self = shared_from_this()](const boost::system::error_code& failure) {
    if (!failure && self->life_ < Life::broken && self->transport_->is_broken())
      self->abandon("it was reset while a request waited for its limits");
  });
}

void Connection::send_replies() noexcept {
  while (!replies_.empty() && life_ < Life::broken && !waiting_writable_)
    if (!send_some() && life_ < Life::broken) wait_writable();
}

// False: there is no room for more.
bool Connection::send_some() noexcept {
  const auto vectors = replies_.gather(host_.gather_buffer());
  auto offered = std::size_t{0};
  for (const auto& vector : vectors) offered += vector.iov_len;
  const auto sent = transport_->write_some(vectors);
  if (sent < 0 && sent != -EAGAIN) {
    abandon(std::strerror(static_cast<int>(-sent)));
    return false;
  }
  host_.read_clock();
  if (sent > 0) {
    progressed_ = true;
    meter_.count(static_cast<std::uint64_t>(sent));
    replies_.consume(static_cast<std::size_t>(sent),
                     [this](const Request& request) { account_.answered(request, host_.now()); });
  }
  return sent == static_cast<ssize_t>(offered);
}

void Connection::push_replies() noexcept {
  if (!waiting_writable_ || replies_.empty() || life_ >= Life::broken) return;
  send_some();
  schedule();  // others may have what has become free
}

void Connection::complete(Piece& piece, std::int64_t result) noexcept {
  auto& request = *piece.request;
  submitter_.note_completed(piece);
  request.piece_completed(host_.now());
  if (result < 0) {
    const auto error_number = static_cast<int>(-result);
    account_.failed(request, error_number, ReplyWriter::fail(request, error_number));
  }
  if (life_ >= Life::broken) {
    if (&piece != request.own) slots_.give_back(piece);
    slots_.give_back_if_over(request);
  } else if (!replies_.complete(piece, result)) {
    abandon("a READ failed behind its reply header");
  }
  schedule();
}

void Connection::end_input() noexcept {
  if (life_ >= Life::ending) return;
  if (life_ == Life::admitted) early_input_ = {};
  set_life(Life::ending);
  interrupt_payload();
  schedule();
}

void Connection::interrupt_payload() noexcept {
  const auto phase = framer_.phase();
  if (phase != RequestFramer::Phase::payload && phase != RequestFramer::Phase::block_status_payload)
    return;
  // The rest of the payload will not come; what was written of it was never acknowledged.
  framer_.interrupt();
  replies_.answer_if_over(submitter_.interrupt());
}

void Connection::abandon(std::string_view reason) noexcept {
  if (life_ >= Life::broken) return;
  log::connection(account_.fields(), "{}: disconnected from \"{}\": {}", account_.peer(),
                  target_->name(), reason);
  set_life(Life::broken);
  early_input_ = {};
  framer_.interrupt();
  // Replies that wait to be sent go first: pieces are given back before their request is.
  replies_.drop_ready();
  if (submitter_.current() != nullptr) {
    auto& request = submitter_.interrupt();
    if (!request.in_order) slots_.give_back_if_over(request);
  }
  replies_.drop_listed();
  transport_->close();
  schedule();
}

void Connection::end_if_done() noexcept {
  if ((life_ >= Life::ending || client_is_gone_) && spent()) host_.note_spent(*this);
  if (!slots_.empty() || submitter_.in_flight() > 0 || !input_is_over()) return;
  const auto broken = life_ == Life::broken;
  set_life(Life::over);
  if (limit_wait_ != nullptr) limit_wait_->cancel();  // its handler would keep it for as long
  if (broken) return host_.remove(*this, nullptr);
  log::connection(account_.fields(), "{}: detached from \"{}\"", account_.peer(), target_->name());
  transport_->cancel_waits();
  host_.remove(*this, std::move(transport_));
}

void Connection::wait_for_resources() noexcept {
  blocked_ = true;
  if (!std::exchange(waiting_for_resources_, true)) host_.wait_for_resources(*this);
}

void Connection::report_slow(Request& request) noexcept {
  account_.report_slow(request, stage_of(request), host_.now());
}

std::string_view Connection::stage_of(const Request& request) const noexcept {
  // A client that does not read keeps the buffers that the rest of its READ would need.
  const auto reader_is_slow = request.header.command == proto::Command::read && waiting_writable_;
  const auto waits = request.state == RequestState::waiting && reader_is_slow;
  return server::stage_of(waits ? RequestState::replying : request.state);
}

ConnectionStatus Connection::status() const {
  const auto& totals = account_.totals();
  auto status = ConnectionStatus{};
  status.id = arrival_;
  status.peer = account_.peer();
  status.protection = transport_ == nullptr ? "" : transport_->protection();
  status.export_name = target_->name();
  status.read_only = read_only();
  status.age = std::chrono::duration_cast<std::chrono::milliseconds>(Clock::now() - since_);
  status.requests = totals.requests;
  status.bytes_read = totals.bytes_read;
  status.bytes_written = totals.bytes_written;
  status.requests_in_flight = slots_.requests_in_flight();
  status.memory = slots_.bytes_held();
  status.latency_sum = totals.latency;
  return status;
}

std::optional<ClientState> Connection::state() const {
  const auto between_requests = submitter_.in_flight() == 0 && submitter_.current() == nullptr;
  if (life_ >= Life::ending || !between_requests) return std::nullopt;
  auto state = ClientState{};
  state.client = transport_->client();
  state.negotiated = negotiated_;
  state.arrival = arrival_;
  state.since = since_;
  const auto unread = framer_.unread();
  state.unread.assign(unread.begin(), unread.end());
  state.unread.insert(state.unread.end(), early_input_.begin(), early_input_.end());
  state.discard_left = framer_.discard_left();
  if (admission_.charged()) state.admitted_at = admission_.admitted_at();
  state.unsent = replies_.unsent();
  state.totals = account_.totals();
  return state;
}

}  // namespace server
