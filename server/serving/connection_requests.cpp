// The part of Connection that frames requests out of the byte stream and hands them to the export's
// queue.
#include <algorithm>
#include <bit>
#include <cstring>
#include <utility>

#include "server/base/log.h"
#include "server/serving/connection.h"
#include "server/serving/connection_host.h"
#include "server/serving/status_buffer.h"

namespace server {
namespace {

// How many extents one BLOCK_STATUS looks up; clients ask again where the answer ends.
constexpr std::size_t status_buffer_size = 64U << 10;  // bytes
constexpr std::size_t status_buffer_size_one = engine::buffer_size_min;

constexpr std::uint64_t round_up(std::uint64_t value, std::uint64_t unit) noexcept {
  return (value + unit - 1) / unit * unit;
}

}  // namespace

void Connection::parse() noexcept {
  blocked_ = receive_blocked_ && !input_ended_;
  auto progress = true;
  while (progress && !broken_) {
    switch (phase_) {
      case Phase::header:
        progress = parse_header();
        break;
      case Phase::reading:
        progress = submit_read_pieces();
        break;
      case Phase::payload:
        progress = fill_write_pieces();
        break;
      case Phase::status_payload:
        progress = parse_status_payload();
        break;
      case Phase::discard:
        progress = discard_payload();
        break;
    }
  }
}

bool Connection::parse_header() noexcept {
  const auto size = proto::request_size(rules_.header_style);
  const auto bytes = received_.unconsumed();
  if (bytes.size() < size) return false;
  const auto header = proto::decode_request(bytes.first(size), rules_.header_style);
  if (!header) {
    abandon("a request with a wrong magic number");
    return false;
  }
  const auto verdict = proto::validate(*header, rules_);
  if (verdict.disconnect) {
    abandon(verdict.reason);
    return false;
  }
  if (header->command == proto::Command::disconnect) {
    received_.consume(bytes.size());  // nothing may follow
    input_ended_ = true;
    lease_.release();
    return false;
  }
  if (verdict.payload_flag_missing && !std::exchange(payload_flag_missed_, true))
    log::debug(log_fields(), "{}: writes with extended headers, but without PAYLOAD_LEN",
               transport_->peer());
  // What is refused moves no byte: it neither waits for limits nor takes from them.
  if (verdict.error == proto::Error::none && !admit(*header)) return false;
  auto* const whole = take_slot();
  if (whole == nullptr) return false;
  charged_ = false;
  received_.consume(size);
  whole->header = *header;
  whole->received = whole->submitted = whole->completed_at = received_at_;
  ++requests_in_flight_;
  queue_.metrics.of(header->command).begun.add(1);
  if (verdict.error == proto::Error::none) return begin(*whole, verdict.payload_length);
  log::debug(log_fields(*whole), "{}: refused: {}", transport_->peer(), verdict.reason);
  refuse(*whole, verdict.error, verdict.reason);
  return discard(verdict.payload_length);
}

bool Connection::begin(Request& whole, std::uint64_t payload_length) noexcept {
  namespace flag = proto::command_flag;
  const auto flags = whole.header.flags;
  using enum proto::Command;
  if (whole.header.command == flush) return submit_whole(whole, engine::Operation::flush);
  if (whole.header.length == 0 && payload_length == 0 && whole.header.command != block_status) {
    answer(whole);
    return true;
  }
  whole.fua = (flags & flag::fua) != 0;
  switch (whole.header.command) {
    case read:
      return begin_current(whole, Phase::reading);
    case write:
      return begin_current(whole, Phase::payload);
    case trim:
      return submit_whole(whole, engine::Operation::discard);
    case cache:
      return submit_whole(whole, engine::Operation::cache);
    case write_zeroes:
      whole.no_hole = (flags & flag::no_hole) != 0;
      whole.fast_zero = (flags & flag::fast_zero) != 0;
      return submit_whole(whole, engine::Operation::write_zeroes);
    case block_status:
      whole.one_extent = (flags & flag::req_one) != 0;
      remaining_ = payload_length;
      return begin_current(whole, Phase::status_payload);
    case flush:
    case disconnect:
      break;
  }
  refuse(whole, proto::Error::invalid,
         "unknown command");  // validate() has let only known ones through
  return true;
}

bool Connection::begin_current(Request& whole, Phase phase) noexcept {
  current_ = &whole;
  next_offset_ = whole.header.offset;
  if (phase != Phase::status_payload) remaining_ = whole.header.length;
  phase_ = phase;
  return true;
}

bool Connection::submit_read_pieces() noexcept {
  const auto undivided = (current_->header.flags & proto::command_flag::df) != 0;
  while (remaining_ > 0) {
    auto* const piece = take_piece(engine::Operation::read, undivided);
    if (piece == nullptr) return false;
    if (piece != current_ && rules_.header_style == proto::HeaderStyle::simple)
      list_in_order(*piece);
    next_offset_ += piece->length;
    remaining_ -= piece->length;
    current_->all_submitted = remaining_ == 0;
    submit(*piece);
  }
  current_ = nullptr;
  phase_ = Phase::header;
  return true;
}

void Connection::list_in_order(Request& piece) noexcept {
  auto& whole = *piece.whole;
  if (!std::exchange(whole.in_order, true)) {
    (first_in_order_ == nullptr ? first_in_order_ : last_in_order_->next_in_order) = &whole;
    last_in_order_ = &whole;
  }
  (whole.first_piece == nullptr ? whole.first_piece : whole.last_piece->next) = &piece;
  whole.last_piece = &piece;
}

bool Connection::fill_write_pieces() noexcept {
  for (;;) {
    if (filling_ == nullptr && remaining_ > 0 && !begin_write_piece()) return false;
    if (filling_ == nullptr) break;
    const auto bytes = received_.unconsumed();
    const auto count = std::min(bytes.size(), static_cast<std::size_t>(filling_->length) - filled_);
    std::memcpy(filling_->buffer + filled_, bytes.data(), count);
    received_.consume(count);
    filled_ += count;
    if (filled_ < filling_->length) return false;
    current_->all_submitted = remaining_ == 0;
    submit(*std::exchange(filling_, nullptr));
  }
  current_ = nullptr;
  phase_ = Phase::header;
  return true;
}

bool Connection::begin_write_piece() noexcept {
  filling_ = take_piece(engine::Operation::write, false);
  if (filling_ == nullptr) return false;
  received_.expect_payload(filling_->length);
  filling_->fua = current_->fua;
  filled_ = 0;
  next_offset_ += filling_->length;
  remaining_ -= filling_->length;
  return true;
}

// The next piece of current_, as large as a buffer allows: the request itself when one buffer takes
// all of it.
Request* Connection::take_piece(engine::Operation operation, bool undivided) noexcept {
  const auto skew = static_cast<std::size_t>(next_offset_ % block_size_);
  const auto whole_size = round_up(skew + remaining_, block_size_);
  const auto unit = std::max<std::size_t>(block_size_, engine::buffer_size_min);
  // A payload comes at the client's pace. The less is free, the smaller its buffers are, so that
  // even many clients that stop in the middle leave room for others.
  const auto most = operation == engine::Operation::write
                        ? std::max(unit, std::bit_floor(host_.buffers().free() / 16))
                        : engine::buffer_size_max;
  const auto wanted = static_cast<std::size_t>(
      std::min<std::uint64_t>(whole_size, std::min(most, engine::buffer_size_max)));
  const auto least = undivided ? wanted : std::min(wanted, unit);
  auto data = host_.buffers().take(wanted, least, data_held_);
  if (!data) {
    wait_for_resources();
    return nullptr;
  }
  const auto length = std::min<std::uint64_t>(remaining_, data.size() - skew);
  auto* const piece = length == current_->header.length ? current_ : take_slot();
  if (piece == nullptr) return nullptr;
  piece->whole = current_;
  piece->operation = operation;
  piece->offset = next_offset_;
  piece->length = length;
  piece->buffer = data.memory() + skew;
  data_held_ += data.size();
  piece->data = std::move(data);
  return piece;
}

bool Connection::parse_status_payload() noexcept {
  if (remaining_ > 0) {
    const auto length = static_cast<std::size_t>(remaining_);  // validate() bounds it
    const auto bytes = received_.unconsumed();
    if (bytes.size() < length) return false;
    const auto payload = proto::parse_block_status_payload(bytes.first(length));
    received_.consume(length);
    remaining_ = 0;
    const auto& header = current_->header;
    const auto valid = payload && payload->effect_length > 0 && payload->allocation_selected &&
                       header.offset <= rules_.export_size &&
                       payload->effect_length <= rules_.export_size - header.offset;
    if (!valid) {
      phase_ = Phase::header;
      refuse(*std::exchange(current_, nullptr), proto::Error::invalid,
             "the payload of BLOCK_STATUS does not fit the request or the selected contexts");
      return true;
    }
    current_->header.length = payload->effect_length;
  }
  return begin_block_status();
}

bool Connection::begin_block_status() noexcept {
  auto& whole = *current_;
  if (whole.header.length == 0) {
    current_ = nullptr;
    phase_ = Phase::header;
    refuse(whole, proto::Error::invalid, "BLOCK_STATUS of no bytes has no answer");
    return true;
  }
  whole.data = host_.buffers().take(whole.one_extent ? status_buffer_size_one : status_buffer_size,
                                    status_buffer_size_one, data_held_);
  if (!whole.data) {
    wait_for_resources();
    return false;
  }
  data_held_ += whole.data.size();
  current_ = nullptr;
  phase_ = Phase::header;
  whole.extents = StatusBuffer({whole.data.memory(), whole.data.size()}).extents;
  if (whole.one_extent) whole.extents = whole.extents.first(1);
  return submit_whole(whole, engine::Operation::block_status);
}

bool Connection::submit_whole(Request& whole, engine::Operation operation) noexcept {
  whole.operation = operation;
  whole.offset = operation == engine::Operation::flush ? 0 : whole.header.offset;
  whole.length = operation == engine::Operation::flush ? 0 : whole.header.length;
  whole.all_submitted = true;
  submit(whole);
  return true;
}

void Connection::submit(Request& piece) noexcept {
  ++ios_in_flight_;
  ++piece.whole->pieces_in_flight;
  piece.whole->submitted = host_.now();
  host_.submit(queue_, piece);
}

bool Connection::discard(std::uint64_t length) noexcept {
  remaining_ = length;
  phase_ = length > 0 ? Phase::discard : Phase::header;
  return true;
}

bool Connection::discard_payload() noexcept {
  const auto count = std::min<std::uint64_t>(received_.unconsumed().size(), remaining_);
  received_.consume(static_cast<std::size_t>(count));
  remaining_ -= count;
  if (remaining_ > 0) return false;
  phase_ = Phase::header;
  return true;
}

Request* Connection::take_slot() noexcept {
  if (slots_held_ >= host_.bounds().requests_max_per_connection) {
    blocked_ = true;  // until replies of its own have been sent, which schedules it
    return nullptr;
  }
  auto* const slot = host_.requests().take(*this, slots_held_);
  if (slot == nullptr) {
    wait_for_resources();
    return nullptr;
  }
  ++slots_held_;
  return slot;
}

void Connection::give_back(Request& request) noexcept {
  if (request.whole == &request) {
    --requests_in_flight_;
    queue_.metrics.of(request.header.command).ended.add(1);
  }
  --slots_held_;
  data_held_ -= request.data.size();
  host_.requests().give_back(request);
}

void Connection::give_back_if_over(Request& whole) noexcept {
  if (whole.all_submitted && whole.pieces_in_flight == 0) give_back(whole);
}

}  // namespace server
