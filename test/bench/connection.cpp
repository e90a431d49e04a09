#include "test/bench/connection.h"

#include <sys/socket.h>

#include <algorithm>
#include <cerrno>
#include <climits>
#include <cstring>
#include <ctime>
#include <numeric>
#include <utility>

#include <fmt/format.h>
#include <boost/endian/buffers.hpp>

#include "proto/constants.h"

namespace bench {
namespace {

struct CompactRequest {  // "Request message"
  boost::endian::big_uint32_buf_t magic;
  boost::endian::big_uint16_buf_t command_flags;
  boost::endian::big_uint16_buf_t type;
  boost::endian::big_uint64_buf_t cookie;
  boost::endian::big_uint64_buf_t offset;
  boost::endian::big_uint32_buf_t length;
};
static_assert(sizeof(CompactRequest) == 28 && alignof(CompactRequest) == 1);

constexpr std::size_t failures_max = 20;
// Below this a discarding system call of its own costs more than copying the bytes.
constexpr std::uint32_t discard_length_min = 16U << 10;

iovec piece_of(const std::byte* begin, std::size_t length) {
  return {.iov_base = const_cast<std::byte*>(begin), .iov_len = length};
}

}  // namespace

std::uint64_t monotonic_time() noexcept {
  timespec now{};
  ::clock_gettime(CLOCK_MONOTONIC, &now);
  return static_cast<std::uint64_t>(now.tv_sec) * 1'000'000'000 +
         static_cast<std::uint64_t>(now.tv_nsec);
}

void Results::merge(const Results& other) {
  latency.merge(other.latency);
  for (std::size_t i = 0; i < operations.size(); ++i) operations[i] += other.operations[i];
  bytes += other.bytes;
  for (const auto& [error, count] : other.errors) errors[error] += count;
  mismatches += other.mismatches;
  failures.insert(failures.end(), other.failures.begin(), other.failures.end());
}

std::uint64_t Results::operation_count() const noexcept {
  return std::accumulate(operations.begin(), operations.end(), std::uint64_t{0});
}

Connection::Connection(Session session, Workload workload, const ConnectionOptions& options,
                       const Content& content, Results& results)
    : session_(std::move(session)),
      workload_(std::move(workload)),
      options_(options),
      content_(content),
      results_(results),
      parser_(*this, session_.structured),
      slots_(options.depth) {
  for (std::uint32_t index = options.depth; index > 0; --index) free_slots_.push_back(index - 1);
  // Twice the depth: requests may be answered while later ones of the same batch still wait for the
  // socket.
  headers_.reserve(std::size_t{2} * options.depth * sizeof(CompactRequest));
  pieces_.reserve(std::size_t{4} * options.depth);
}

Connection::~Connection() {
  if (in_flight_ > 0 || has_unsent()) return;
  CompactRequest goodbye{};
  goodbye.magic = proto::request_magic;
  goodbye.type = static_cast<std::uint16_t>(proto::Command::disconnect);
  // The server may be gone already; there is nobody left who could mind.
  [[maybe_unused]] const auto sent =
      ::send(socket(), &goodbye, sizeof goodbye, MSG_NOSIGNAL | MSG_DONTWAIT);
}

std::uint64_t Connection::fill(std::uint64_t allowance, std::uint64_t now) {
  std::uint64_t count = 0;
  while (count < allowance && !free_slots_.empty() &&
         headers_.size() + sizeof(CompactRequest) <= headers_.capacity()) {
    add(workload_.next(), now);
    ++count;
  }
  return count;
}

void Connection::add(const WorkloadRequest& request, std::uint64_t now) {
  const std::uint32_t index = free_slots_.back();
  free_slots_.pop_back();
  stage(index, request, now);
}

void Connection::stage(std::uint32_t index, const WorkloadRequest& request, std::uint64_t now) {
  slots_[index] = {.request = request, .sent_at = now, .in_flight = true};
  ++in_flight_;

  CompactRequest header;
  header.magic = proto::request_magic;
  header.command_flags = request.flags;
  header.type = static_cast<std::uint16_t>(request.command);
  header.cookie = index;
  header.offset = request.offset;
  header.length = request.length;
  const auto bytes = std::as_bytes(std::span(&header, 1));
  const auto at = headers_.insert(headers_.end(), bytes.begin(), bytes.end());
  // Headers without payloads between them leave as one piece.
  const std::byte* begin = &*at;
  if (has_unsent() &&
      static_cast<std::byte*>(pieces_.back().iov_base) + pieces_.back().iov_len == begin) {
    pieces_.back().iov_len += sizeof header;
  } else {
    pieces_.push_back(piece_of(begin, sizeof header));
  }
  if (request.command == proto::Command::write) {
    pieces_.push_back(piece_of(content_.at(request.offset, request.length).data(), request.length));
  }
}

void Connection::send() {
  while (has_unsent()) {
    msghdr message{};
    message.msg_iov = &pieces_[next_piece_];
    message.msg_iovlen = std::min<std::size_t>(pieces_.size() - next_piece_, IOV_MAX);
    const ssize_t sent = ::sendmsg(socket(), &message, MSG_NOSIGNAL | MSG_DONTWAIT);
    const int error = errno;
    if (sent < 0 && (error == EAGAIN || error == EINTR)) return;
    if (sent < 0) throw std::runtime_error(fmt::format("cannot send: {}", std::strerror(error)));
    auto left = static_cast<std::size_t>(sent);
    while (left > 0) {
      iovec& piece = pieces_[next_piece_];
      const std::size_t taken = std::min(left, piece.iov_len);
      piece.iov_base = static_cast<std::byte*>(piece.iov_base) + taken;
      piece.iov_len -= taken;
      left -= taken;
      if (piece.iov_len == 0) ++next_piece_;
    }
  }
  headers_.clear();
  pieces_.clear();
  next_piece_ = 0;
}

bool Connection::receive(std::vector<std::byte>& buffer, bool wait) {
  std::size_t room = buffer.size();
  int flags = wait ? 0 : MSG_DONTWAIT;
  const bool discard = options_.discard && parser_.content_remaining() >= discard_length_min;
  if (discard) {
    room = std::min<std::size_t>(room, parser_.content_remaining());
    flags |= MSG_TRUNC;
  }
  const ssize_t received = ::recv(socket(), buffer.data(), room, flags);
  const int error = errno;
  if (received < 0 && error == EAGAIN && !wait) return false;
  if (received < 0 && error == EINTR) return false;
  if (received < 0) {
    throw std::runtime_error(error == EAGAIN
                                 ? "the server has not answered for 30 seconds"
                                 : fmt::format("cannot receive: {}", std::strerror(error)));
  }
  if (received == 0) throw std::runtime_error("the server closed the connection");
  completed_at_ = monotonic_time();
  const auto length = static_cast<std::size_t>(received);
  if (discard) {
    slot_of(parser_.content_cookie()).bytes_seen += static_cast<std::uint32_t>(length);
    parser_.skip(static_cast<std::uint32_t>(length));
  } else {
    parser_.parse(std::span(buffer).first(length));
  }
  return true;
}

Connection::Slot& Connection::slot_of(std::uint64_t cookie) {
  if (cookie >= slots_.size() || !slots_[cookie].in_flight) {
    throw ProtocolError(fmt::format("a reply has the cookie {:#x}, which no request has", cookie));
  }
  return slots_[cookie];
}

std::uint32_t Connection::read_length(std::uint64_t cookie) {
  const WorkloadRequest& request = slot_of(cookie).request;
  return request.command == proto::Command::read ? request.length : 0;
}

std::uint64_t Connection::read_offset(std::uint64_t cookie) {
  return slot_of(cookie).request.offset;
}

void Connection::content(std::uint64_t cookie, std::uint32_t position,
                         std::span<const std::byte> bytes) {
  Slot& slot = slot_of(cookie);
  slot.bytes_seen += static_cast<std::uint32_t>(bytes.size());
  if (!options_.verify) return;
  const std::uint64_t offset = slot.request.offset + position;
  if (const auto differs = content_.mismatch(offset, bytes))
    report_mismatch(slot, offset + *differs);
}

void Connection::hole(std::uint64_t cookie, std::uint32_t position, std::uint32_t length) {
  Slot& slot = slot_of(cookie);
  slot.bytes_seen += length;
  // The contents have no stretch of zeroes.
  if (options_.verify) report_mismatch(slot, slot.request.offset + position);
}

void Connection::report_mismatch(Slot& slot, std::uint64_t offset) {
  if (!std::exchange(slot.failed, true)) ++results_.mismatches;
  if (results_.failures.size() < failures_max) {
    results_.failures.push_back(fmt::format("wrong contents at offset {}", offset));
  }
}

void Connection::failed(std::uint64_t cookie, std::uint32_t error) {
  slot_of(cookie).failed = true;
  ++results_.errors[error];
}

void Connection::completed(std::uint64_t cookie) {
  Slot& slot = slot_of(cookie);
  const WorkloadRequest& request = slot.request;
  if (!slot.failed && slot.bytes_seen != read_length(cookie)) {
    throw ProtocolError("the reply to a read does not cover its range");
  }
  slot.in_flight = false;
  --in_flight_;
  free_slots_.push_back(static_cast<std::uint32_t>(cookie));
  if (slot.failed) return;
  results_.latency.record(completed_at_ - slot.sent_at);
  ++results_.operations[static_cast<std::size_t>(request.command)];
  if (request.command == proto::Command::read || request.command == proto::Command::write) {
    results_.bytes += request.length;
  }
}

}  // namespace bench
