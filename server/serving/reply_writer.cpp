#include "server/serving/reply_writer.h"

#include <algorithm>
#include <utility>

#include "engine/check.h"
#include "proto/error.h"
#include "server/serving/block_status_buffer.h"
#include "server/serving/zero_edges.h"

namespace server {
namespace {

constexpr std::size_t hole_unit = 4096;  // bytes; smaller holes are not worth a chunk

std::string_view text_of(proto::Error error) noexcept {
  switch (error) {
    case proto::Error::no_space:
      return "no space left where the image is stored";
    case proto::Error::perm:
      return "the image does not permit this operation";
    case proto::Error::invalid:
      return "the image's storage refuses this request as invalid";
    case proto::Error::not_supported:
      return "zeroes cannot be written faster than data here";
    case proto::Error::no_memory:
      return "the server is out of memory";
    default:
      return "input/output error on the image; the server's log says more";
  }
}

std::span<const std::byte> bytes_of(std::string_view text) noexcept {
  return std::as_bytes(std::span(text.data(), text.size()));
}

}  // namespace

proto::ReplyTo ReplyWriter::reply_to(const Request& request) const noexcept {
  return {
      .style = style_, .cookie = request.header.cookie, .request_offset = request.header.offset};
}

void ReplyWriter::refuse(Request& request, proto::Error error, std::string_view text) noexcept {
  request.error = error;
  request.error_text = text;
  answer(request);
}

void ReplyWriter::answer(Request& request) noexcept {
  auto& piece = *request.own;
  auto size = std::size_t{0};
  if (style_ == proto::HeaderStyle::simple) {
    size = proto::encode_simple_reply(piece.head, request.header.cookie, request.error);
  } else if (request.error == proto::Error::none) {
    size = proto::encode_none_chunk(piece.head, reply_to(request));
  } else {
    size = proto::encode_error_chunk(piece.head, reply_to(request), request.error,
                                     request.error_text.size());
    piece.body = bytes_of(request.error_text);
  }
  piece.head_size = static_cast<std::uint8_t>(size);
  request.enter(RequestState::replying);
  enqueue(piece);
}

proto::Error ReplyWriter::fail(Request& request, int error_number) noexcept {
  const auto error =
      proto::error_from_errno(error_number, request.has_flag(proto::command_flag::fast_zero));
  if (request.error == proto::Error::none) {
    request.error = error;
    request.error_text = text_of(error);
  }
  return error;
}

void ReplyWriter::list_in_order(Piece& piece) noexcept {
  auto& request = *piece.request;
  if (!std::exchange(request.in_order, true)) {
    (first_in_order_ == nullptr ? first_in_order_ : last_in_order_->next_in_order) = &request;
    last_in_order_ = &request;
  }
  (request.first_piece == nullptr ? request.first_piece : request.last_piece->next) = &piece;
  request.last_piece = &piece;
}

bool ReplyWriter::complete_read(Piece& piece, bool success) noexcept {
  auto& request = *piece.request;
  if (request.in_order) {
    piece.completed = true;
    return send_in_order();
  }
  const auto undivided = &piece == request.own;
  if (success) {
    encode_read(piece, undivided);
    enqueue(piece);
  } else if (!undivided) {
    slots_.give_back(piece);
  }
  if (!undivided || !success) answer_if_over(request);
  return true;
}

void ReplyWriter::encode_read(Piece& piece, bool done) const noexcept {
  const auto data =
      std::span<const std::byte>(piece.buffer, static_cast<std::size_t>(piece.length));
  const auto& request = *piece.request;
  auto head = std::span<std::byte>(piece.head);
  if (style_ == proto::HeaderStyle::simple) {
    piece.head_size = static_cast<std::uint8_t>(
        proto::encode_simple_reply(head, request.header.cookie, proto::Error::none));
    piece.body = data;
    return;
  }
  const auto to = reply_to(request);
  const auto one_chunk = request.has_flag(proto::command_flag::df);
  const auto edges = one_chunk ? ZeroEdges{} : find_zero_edges(data, piece.offset, hole_unit);
  const auto body = data.subspan(edges.leading, data.size() - edges.leading - edges.trailing);
  auto size = std::size_t{0};
  if (edges.leading > 0)
    size += proto::encode_hole_chunk(
        head, to, piece.offset, static_cast<std::uint32_t>(edges.leading), done && body.empty());
  if (!body.empty())
    size += proto::encode_data_chunk(head.subspan(size), to, piece.offset + edges.leading,
                                     static_cast<std::uint32_t>(body.size()),
                                     done && edges.trailing == 0);
  if (edges.trailing > 0)
    piece.tail_size = static_cast<std::uint8_t>(
        proto::encode_hole_chunk(piece.tail, to, piece.offset + piece.length - edges.trailing,
                                 static_cast<std::uint32_t>(edges.trailing), done));
  piece.head_size = static_cast<std::uint8_t>(size);
  piece.body = body;
}

bool ReplyWriter::send_in_order() noexcept {
  while (first_in_order_ != nullptr) {
    auto& request = *first_in_order_;
    if (request.error != proto::Error::none && request.reply_begun)
      return false;  // the header promised all the data. Spec: "NBD_CMD_READ", simple replies
    if (!move_first_in_order()) break;
  }
  LOOPNBD_ASSERT(invariants());
  return true;
}

// Moves what is ready of the oldest READ that is answered by one simple reply. True: it is
// complete.
bool ReplyWriter::move_first_in_order() noexcept {
  auto& request = *first_in_order_;
  while (request.first_piece != nullptr && request.first_piece->completed) {
    auto& piece = *request.first_piece;
    request.first_piece = piece.next;
    if (request.error != proto::Error::none) {
      slots_.give_back(piece);
      continue;
    }
    piece.body = {piece.buffer, static_cast<std::size_t>(piece.length)};
    if (!request.reply_begun)
      piece.head_size = static_cast<std::uint8_t>(
          proto::encode_simple_reply(piece.head, request.header.cookie, proto::Error::none));
    request.reply_begun = true;
    ready_.push(piece);
  }
  if (request.first_piece != nullptr || !request.all_submitted) return false;
  first_in_order_ = request.next_in_order;
  if (request.reply_begun) {
    // It has no bytes of its own, but is over only when those in front of it have been sent.
    ready_.push(*request.own);
    ready_.append(held_back_);
  } else {
    answer(request);
  }
  return true;
}

// One chunk for each context, all of them in the buffer of the extents. Spec:
// "NBD_CMD_BLOCK_STATUS".
void ReplyWriter::complete_block_status(Request& request, std::int64_t result) noexcept {
  if (result < 0) return answer(request);
  auto& piece = *request.own;
  const auto buffer =
      BlockStatusBuffer({piece.data.memory(), piece.data.size()}, request.contexts.size());
  const auto found = buffer.extents.first(static_cast<std::size_t>(result));
  auto rest = buffer.encoded;
  auto left = request.contexts.size();
  for (const auto& offered : contexts_) {
    const auto id = offered.context.id;
    if (!request.contexts.contains(id)) continue;
    std::ranges::transform(found, buffer.status.begin(), [&](const engine::Extent& extent) {
      return proto::StatusExtent{.length = extent.length, .flags = offered.flags_of(extent)};
    });
    const auto count = proto::fit_extents(buffer.status.first(found.size()), style_,
                                          request.header.length, piece.one_extent);
    if (count == 0) return refuse(request, proto::Error::io, text_of(proto::Error::io));
    rest = rest.subspan(
        proto::encode_block_status_chunk(rest, reply_to(request), id, count, --left == 0));
    const auto size = count * proto::encoded_extent_size(style_);
    proto::encode_extents(rest.first(size), style_, buffer.status.first(count));
    rest = rest.subspan(size);
  }
  LOOPNBD_ASSERT(left == 0);  // a client selects what is offered
  piece.body = buffer.encoded.first(buffer.encoded.size() - rest.size());
  enqueue(piece);
}

std::vector<std::byte> ReplyWriter::unsent() const {
  auto bytes = ready_.unsent();
  const auto behind = held_back_.unsent();
  bytes.insert(bytes.end(), behind.begin(), behind.end());
  return bytes;
}

void ReplyWriter::drop_ready() noexcept {
  while (!ready_.empty()) slots_.give_back(ready_.pop());
  while (!held_back_.empty()) slots_.give_back(held_back_.pop());
}

void ReplyWriter::drop_listed() noexcept {
  while (first_in_order_ != nullptr) {
    auto& request = *first_in_order_;
    first_in_order_ = request.next_in_order;
    for (auto* piece = std::exchange(request.first_piece, nullptr); piece != nullptr;) {
      auto* const next = piece->next;
      if (piece->completed) slots_.give_back(*piece);
      piece = next;
    }
    slots_.give_back_if_over(request);
  }
}

bool ReplyWriter::invariants() const noexcept {
  // Replies wait only behind one that has begun.
  const auto in_the_middle = first_in_order_ != nullptr && first_in_order_->reply_begun;
  if (!held_back_.empty() && !in_the_middle) return false;
  for (const auto* request = first_in_order_; request != nullptr;
       request = request->next_in_order) {
    if (!request->in_order || style_ != proto::HeaderStyle::simple) return false;
    // Only the first one has anything on its way.
    if (request != first_in_order_ && request->reply_begun) return false;
    if (request->next_in_order == nullptr && request != last_in_order_) return false;
  }
  return true;
}

}  // namespace server
