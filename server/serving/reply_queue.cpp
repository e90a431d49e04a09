#include "server/serving/reply_queue.h"

#include <algorithm>
#include <cstring>

namespace server {
namespace {

// Builds a list of iovecs in which neighbouring bytes of `buffer` share one.
class Gatherer {
 public:
  explicit Gatherer(GatherBuffer& buffer) noexcept : buffer_(buffer) {}

  bool has_room() const noexcept {
    // A piece takes three vectors and one head and tail at most.
    return count_ + 3 <= buffer_.vectors.size() &&
           used_ + 3 * proto::reply_header_size_max <= buffer_.bytes.size();
  }

  // Copies a head or tail; it may be sent in part already.
  void copy(std::span<const std::byte> bytes, std::size_t& skip) noexcept {
    bytes = skipped(bytes, skip);
    if (bytes.empty()) return;
    auto* const place = buffer_.bytes.data() + used_;
    std::memcpy(place, bytes.data(), bytes.size());
    used_ += bytes.size();
    if (count_ > 0 && end_of_copies_ == place && last_is_copy_) {
      buffer_.vectors[count_ - 1].iov_len += bytes.size();
    } else {
      buffer_.vectors[count_++] = {.iov_base = place, .iov_len = bytes.size()};
    }
    end_of_copies_ = place + bytes.size();
    last_is_copy_ = true;
  }

  void refer(std::span<const std::byte> bytes, std::size_t& skip) noexcept {
    bytes = skipped(bytes, skip);
    if (bytes.empty()) return;
    buffer_.vectors[count_++] = {
        .iov_base = const_cast<std::byte*>(bytes.data()),  // writev() only reads
        .iov_len = bytes.size()};
    last_is_copy_ = false;
  }

  std::span<const iovec> vectors() const noexcept {
    return std::span(buffer_.vectors).first(count_);
  }

 private:
  static std::span<const std::byte> skipped(std::span<const std::byte> bytes,
                                            std::size_t& skip) noexcept {
    const auto count = std::min(skip, bytes.size());
    skip -= count;
    return bytes.subspan(count);
  }

  GatherBuffer& buffer_;
  std::size_t count_ = 0;  // vectors
  std::size_t used_ = 0;   // bytes
  const std::byte* end_of_copies_ = nullptr;
  bool last_is_copy_ = false;
};

}  // namespace

void ReplyQueue::append(ReplyQueue& other) noexcept {
  while (!other.empty()) push(other.pop());
}

std::span<const iovec> ReplyQueue::gather(GatherBuffer& buffer) const noexcept {
  auto gatherer = Gatherer(buffer);
  auto skip = sent_of_first_;
  for (auto* piece = first_; piece != nullptr && gatherer.has_room(); piece = piece->next) {
    gatherer.copy(std::span(piece->head).first(piece->head_size), skip);
    gatherer.refer(piece->body, skip);
    gatherer.copy(std::span(piece->tail).first(piece->tail_size), skip);
  }
  return gatherer.vectors();
}

std::vector<std::byte> ReplyQueue::unsent() const {
  auto bytes = std::vector<std::byte>{};
  for (const auto* piece = first_; piece != nullptr; piece = piece->next) {
    bytes.insert(bytes.end(), piece->head.begin(), piece->head.begin() + piece->head_size);
    bytes.insert(bytes.end(), piece->body.begin(), piece->body.end());
    bytes.insert(bytes.end(), piece->tail.begin(), piece->tail.begin() + piece->tail_size);
  }
  bytes.erase(bytes.begin(), bytes.begin() + static_cast<std::ptrdiff_t>(sent_of_first_));
  return bytes;
}

}  // namespace server
