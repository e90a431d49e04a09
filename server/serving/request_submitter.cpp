#include "server/serving/request_submitter.h"

#include <algorithm>
#include <utility>

#include "engine/check.h"
#include "engine/rounding.h"
#include "server/serving/block_status_buffer.h"

namespace server {
namespace {

// How many extents one BLOCK_STATUS looks up; clients ask again where the answer ends.
constexpr std::size_t block_status_buffer_size = 64U << 10;  // bytes
constexpr std::size_t block_status_buffer_size_one = engine::buffer_size_min;

}  // namespace

RequestSubmitter::RequestSubmitter(ConnectionHost& host, ExportQueue& queue, RequestSlots& slots,
                                   ReplyWriter& replies, proto::HeaderStyle style)
    : host_(host),
      queue_(queue),
      slots_(slots),
      replies_(replies),
      replies_are_simple_(style == proto::HeaderStyle::simple),
      block_size_(std::max(queue.device()->geometry().block_size, request_alignment)) {}

Need RequestSubmitter::begin(Request& request, bool has_payload) noexcept {
  LOOPNBD_ASSERT(current_ == nullptr);
  namespace flag = proto::command_flag;
  using enum proto::Command;
  auto& piece = *request.own;
  switch (request.header.command) {
    case flush:
      return submit_undivided(request, engine::Operation::flush);
    case trim:
      piece.fua = request.has_flag(flag::fua);
      return submit_undivided(request, engine::Operation::discard);
    case cache:
      piece.fua = request.has_flag(flag::fua);
      return submit_undivided(request, engine::Operation::cache);
    case write_zeroes:
      piece.fua = request.has_flag(flag::fua);
      piece.no_hole = request.has_flag(flag::no_hole);
      piece.fast_zero = request.has_flag(flag::fast_zero);
      return submit_undivided(request, engine::Operation::write_zeroes);
    default:
      break;
  }
  piece.fua = request.has_flag(flag::fua);
  current_ = &request;
  next_offset_ = request.header.offset;
  remaining_ = request.header.length;
  if (request.header.command == read) return submit_read_pieces();
  if (request.header.command == block_status) piece.one_extent = request.has_flag(flag::req_one);
  if (!has_payload) return submit_block_status();
  request.enter(RequestState::receiving);
  return Need::nothing;
}

Need RequestSubmitter::resume() noexcept {
  return current_->header.command == proto::Command::read ? submit_read_pieces()
                                                          : submit_block_status();
}

Need RequestSubmitter::submit_read_pieces() noexcept {
  const auto undivided = current_->has_flag(proto::command_flag::df);
  while (remaining_ > 0) {
    // With nothing under way and nothing to send, nothing that it holds would become free: replies
    // may wait behind this one.
    const auto others_go_on = in_flight_ > 0 || !replies_.empty();
    if (others_go_on && !slots_.may_read_ahead()) return slots_.need();
    auto* const piece = take_piece(engine::Operation::read, undivided);
    if (piece == nullptr) return slots_.need();
    if (piece != current_->own && replies_are_simple_) replies_.list_in_order(*piece);
    next_offset_ += piece->length;
    remaining_ -= piece->length;
    current_->all_submitted = remaining_ == 0;
    submit(*piece);
  }
  current_ = nullptr;
  return Need::nothing;
}

Need RequestSubmitter::fill(RequestFramer& framer) noexcept {
  for (;;) {
    auto* piece = std::exchange(filling_, nullptr);
    auto full = false;
    if (piece == nullptr) {
      if (remaining_ == 0) break;
      LOOPNBD_ASSERT(framer.unplaced() == remaining_);
      piece = take_piece(engine::Operation::write, false);
      if (piece == nullptr) return slots_.need();
      const auto length = static_cast<std::size_t>(piece->length);
      full = framer.place({piece->buffer, length});
      piece->fua = current_->has_flag(proto::command_flag::fua);
      next_offset_ += length;
      remaining_ -= length;
    } else {
      full = framer.fill();
    }
    if (!full) {
      filling_ = piece;
      return Need::bytes;
    }
    current_->all_submitted = remaining_ == 0;
    submit(*piece);
  }
  current_ = nullptr;
  LOOPNBD_ASSERT(invariants());
  return Need::nothing;
}

// The next piece of current_, as large as a buffer allows: its own when one buffer takes all of it.
Piece* RequestSubmitter::take_piece(engine::Operation operation, bool undivided) noexcept {
  const auto skew = static_cast<std::size_t>(next_offset_ % block_size_);
  const auto size = engine::round_up(skew + remaining_, block_size_);
  const auto unit = std::max<std::size_t>(block_size_, engine::buffer_size_min);
  // A payload comes at the client's pace. The less is free, the smaller its buffers are, so that
  // even many clients that stop in the middle leave room for others.
  const auto most =
      undivided ? engine::buffer_size_max
                : std::max(unit, slots_.piece_size_max(operation == engine::Operation::write));
  const auto wanted = static_cast<std::size_t>(std::min<std::uint64_t>(size, most));
  const auto least = undivided ? wanted : std::min(wanted, unit);
  auto buffer = slots_.take_buffer(wanted, least);
  if (!buffer) return nullptr;
  const auto length = std::min<std::uint64_t>(remaining_, buffer.size() - skew);
  auto* const piece =
      length == current_->header.length ? current_->own : slots_.take_piece(*current_);
  if (piece == nullptr) return nullptr;
  piece->operation = operation;
  piece->offset = next_offset_;
  piece->length = length;
  piece->buffer = buffer.memory() + skew;
  slots_.attach(*piece, std::move(buffer));
  return piece;
}

Need RequestSubmitter::submit_block_status() noexcept {
  auto& piece = *current_->own;
  auto buffer =
      slots_.take_buffer(piece.one_extent ? block_status_buffer_size_one : block_status_buffer_size,
                         block_status_buffer_size_one);
  if (!buffer) return slots_.need();
  piece.extents =
      BlockStatusBuffer({buffer.memory(), buffer.size()}, current_->contexts.size()).extents;
  if (piece.one_extent) piece.extents = piece.extents.first(1);
  slots_.attach(piece, std::move(buffer));
  remaining_ = 0;
  return submit_undivided(*std::exchange(current_, nullptr), engine::Operation::block_status);
}

Need RequestSubmitter::submit_undivided(Request& request, engine::Operation operation) noexcept {
  auto& piece = *request.own;
  const auto everything = operation == engine::Operation::flush;
  piece.operation = operation;
  piece.offset = everything ? 0 : request.header.offset;
  piece.length = everything ? 0 : request.header.length;
  request.all_submitted = true;
  submit(piece);
  return Need::nothing;
}

Request& RequestSubmitter::drop_current() noexcept {
  auto& request = *std::exchange(current_, nullptr);
  request.all_submitted = true;
  remaining_ = 0;
  if (auto* const piece = std::exchange(filling_, nullptr);
      piece != nullptr && piece != request.own)
    slots_.give_back(*piece);
  return request;
}

Request& RequestSubmitter::interrupt() noexcept {
  auto& request = drop_current();
  if (request.error == proto::Error::none) {
    request.error = proto::Error::shutdown;
    request.error_text = "the connection ended before the request was complete";
  }
  LOOPNBD_ASSERT(invariants());
  return request;
}

bool RequestSubmitter::invariants() const noexcept {
  if (current_ == nullptr) return filling_ == nullptr && remaining_ == 0;
  return filling_ == nullptr || filling_->request == current_;
}

}  // namespace server
