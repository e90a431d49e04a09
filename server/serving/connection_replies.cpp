// The part of Connection that turns results into replies.
#include <algorithm>
#include <cstring>

#include "proto/error.h"
#include "proto/names.h"
#include "server/base/log.h"
#include "server/export/export.h"
#include "server/serving/connection.h"
#include "server/serving/connection_host.h"
#include "server/serving/status_buffer.h"
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

proto::ReplyTo Connection::reply_to(const Request& whole) const noexcept {
  return {.style = rules_.header_style,
          .cookie = whole.header.cookie,
          .request_offset = whole.header.offset};
}

void Connection::note_error(Request& whole, std::int64_t result) noexcept {
  const auto number = static_cast<int>(-result);
  const auto error = proto::error_from_errno(number, whole.fast_zero);
  if (whole.error == proto::Error::none) {
    whole.error = error;
    whole.error_text = text_of(error);
  }
  const auto syncs = whole.header.command == proto::Command::flush || whole.fua;
  if (syncs && queue_.device->sync_error() != 0) queue_.metrics.sync_failures.add(1);
  if (error == proto::Error::not_supported) return;  // the quick "no" that FAST_ZERO asks for
  if (const auto silenced = target_->error_log().admit())
    log::error(log_fields(whole), "export \"{}\": {} of {} bytes at {} failed: {}{}",
               target_->name(), proto::name(whole.header.command), whole.header.length,
               whole.header.offset, std::strerror(number), log::silenced_text(*silenced));
}

void Connection::refuse(Request& whole, proto::Error error, std::string_view text) noexcept {
  whole.error = error;
  whole.error_text = text;
  answer(whole);
}

void Connection::answer_when_done(Request& whole) noexcept {
  if (whole.all_submitted && whole.pieces_in_flight == 0) answer(whole);
}

// The one reply, or the last chunk, of a request without further content.
void Connection::answer(Request& whole) noexcept {
  auto size = std::size_t{0};
  if (rules_.header_style == proto::HeaderStyle::simple) {
    size = proto::encode_simple_reply(whole.head, whole.header.cookie, whole.error);
  } else if (whole.error == proto::Error::none) {
    size = proto::encode_none_chunk(whole.head, reply_to(whole));
  } else {
    size = proto::encode_error_chunk(whole.head, reply_to(whole), whole.error,
                                     whole.error_text.size());
    whole.body = bytes_of(whole.error_text);
  }
  whole.head_size = static_cast<std::uint8_t>(size);
  enqueue(whole);
}

void Connection::complete_read(Request& piece, bool success) noexcept {
  auto& whole = *piece.whole;
  if (whole.in_order) {
    piece.completed = true;
    send_in_order();
    return;
  }
  if (success) {
    encode_read(piece, &piece == &whole);
    enqueue(piece);
  } else if (&piece != &whole) {
    give_back(piece);
  }
  if (&piece != &whole || !success) answer_when_done(whole);
}

void Connection::encode_read(Request& piece, bool done) noexcept {
  const auto data =
      std::span<const std::byte>(piece.buffer, static_cast<std::size_t>(piece.length));
  const auto& whole = *piece.whole;
  auto head = std::span<std::byte>(piece.head);
  if (rules_.header_style == proto::HeaderStyle::simple) {
    piece.head_size = static_cast<std::uint8_t>(
        proto::encode_simple_reply(head, whole.header.cookie, proto::Error::none));
    piece.body = data;
    return;
  }
  const auto to = reply_to(whole);
  const auto one_chunk = (whole.header.flags & proto::command_flag::df) != 0;
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

void Connection::send_in_order() noexcept {
  while (first_in_order_ != nullptr && send_first_in_order()) {
  }
}

// Moves what is ready of the oldest READ that is answered by one simple reply. True: it is
// complete.
bool Connection::send_first_in_order() noexcept {
  auto& whole = *first_in_order_;
  if (whole.error != proto::Error::none && whole.reply_begun) {
    // The header promised all the data. Spec: "NBD_CMD_READ", simple replies.
    abandon("a READ failed behind its reply header");
    return false;
  }
  while (whole.first_piece != nullptr && whole.first_piece->completed) {
    auto& piece = *whole.first_piece;
    whole.first_piece = piece.next;
    if (whole.error != proto::Error::none) {
      give_back(piece);
      continue;
    }
    piece.body = {piece.buffer, static_cast<std::size_t>(piece.length)};
    if (!whole.reply_begun)
      piece.head_size = static_cast<std::uint8_t>(
          proto::encode_simple_reply(piece.head, whole.header.cookie, proto::Error::none));
    whole.reply_begun = true;
    replies_.push(piece);
  }
  if (whole.first_piece != nullptr || !whole.all_submitted) return false;
  first_in_order_ = whole.next_in_order;
  if (whole.reply_begun) {
    // Of no bytes of its own, but over only when those in front of it have been sent.
    replies_.push(whole);
    replies_.append(held_back_);
  } else {
    answer(whole);
  }
  return true;
}

void Connection::complete_block_status(Request& whole, std::int64_t result) noexcept {
  if (result < 0) return answer(whole);
  const auto buffer = StatusBuffer({whole.data.memory(), whole.data.size()});
  const auto found = buffer.extents.first(static_cast<std::size_t>(result));
  std::ranges::transform(found, buffer.status.begin(), [](const engine::Extent& extent) {
    return proto::StatusExtent{.length = extent.length,
                               .flags = (extent.hole ? proto::allocation_flag::hole : 0) |
                                        (extent.zero ? proto::allocation_flag::zero : 0)};
  });
  const auto style = rules_.header_style;
  const auto count = proto::fit_extents(buffer.status.first(found.size()), style,
                                        whole.header.length, whole.one_extent);
  if (count == 0) return refuse(whole, proto::Error::io, text_of(proto::Error::io));
  const auto encoded = buffer.encoded.first(count * proto::encoded_extent_size(style));
  proto::encode_extents(encoded, style, buffer.status.first(count));
  whole.head_size = static_cast<std::uint8_t>(proto::encode_block_status_chunk(
      whole.head, reply_to(whole), proto::allocation_context_id, count, true));
  whole.body = encoded;
  enqueue(whole);
}

void Connection::enqueue(Request& request) noexcept {
  const auto in_the_middle = first_in_order_ != nullptr && first_in_order_->reply_begun;
  (in_the_middle ? held_back_ : replies_).push(request);
  schedule();
}

}  // namespace server
