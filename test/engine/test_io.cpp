#include "test/engine/test_io.h"

#include <poll.h>

#include <algorithm>
#include <cstring>
#include <new>
#include <utility>

using namespace engine;

namespace test {

IoMemory::IoMemory(std::uint64_t offset, std::size_t length, std::size_t block_size,
                   std::byte slack)
    : lead_(offset % block_size), length_(length) {
  const std::size_t whole = (lead_ + length + block_size - 1) / block_size * block_size;
  // Exactly the whole blocks: the address sanitizer sees a byte too far.
  void* memory = nullptr;
  const std::size_t alignment = std::max(block_size, sizeof(void*));
  if (::posix_memalign(&memory, alignment, std::max<std::size_t>(whole, 1)) != 0)
    throw std::bad_alloc();
  std::memset(memory, std::to_integer<int>(slack), whole);
  memory_.reset(static_cast<std::byte*>(memory));
}

void IoMemory::fill(std::byte value) const noexcept {
  std::memset(bytes(), std::to_integer<int>(value), length_);
}

TestIo::TestIo(Operation wanted, std::uint64_t at, std::uint64_t size, std::byte* memory) {
  operation = wanted;
  offset = at;
  length = size;
  buffer = memory;
}

void TestIo::complete(std::int64_t result) noexcept {
  result_ = result;
  ++completions_;
  if (on_complete) on_complete();
}

bool is_readable(int fd) {
  pollfd poll_fd{fd, POLLIN, 0};
  return ::poll(&poll_fd, 1, 0) == 1;
}

bool drive(IoQueue& queue, const std::function<bool()>& done) {
  constexpr int stuck_ms = 10'000;
  for (;;) {
    queue.flush();
    const bool busy = queue.harvest() > 0;
    if (done()) return true;
    if (busy) continue;  // complete() may have submitted what only flush() will start
    pollfd poll_fd{queue.wakeup_fd(), POLLIN, 0};
    if (::poll(&poll_fd, 1, stuck_ms) != 1) return false;
    queue.clear_wakeup();
  }
}

std::optional<std::int64_t> run(IoQueue& queue, TestIo& io) {
  queue.submit(io);
  if (!drive(queue, [&] { return io.is_complete(); })) return std::nullopt;
  return io.result();
}

Bytes read_bytes(IoQueue& queue, std::uint64_t offset, std::size_t length, std::size_t block_size) {
  const IoMemory memory(offset, length, block_size);
  TestIo io(Operation::read, offset, length, memory.bytes());
  if (run(queue, io) != static_cast<std::int64_t>(length)) return {};
  return memory.copy();
}

std::int64_t write_bytes(IoQueue& queue, std::uint64_t offset, const Bytes& bytes,
                         std::size_t block_size, bool fua) {
  const IoMemory memory(offset, bytes.size(), block_size);
  std::copy(bytes.begin(), bytes.end(), memory.bytes());
  TestIo io(Operation::write, offset, bytes.size(), memory.bytes());
  io.fua = fua;
  return run(queue, io).value_or(-1000);
}

}  // namespace test
