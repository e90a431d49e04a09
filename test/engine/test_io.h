// Tools that drive queues in the engine's tests: an Io that remembers its result, memory that fits
// Io::buffer's promise, and waiting for completions by the queue's wakeup_fd. One thread per queue,
// as in the server.
#pragma once

#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <functional>
#include <memory>
#include <optional>

#include "engine/io_queue.h"
#include "test/support/bytes.h"

namespace test {

// Memory for `length` bytes at `offset`: congruent to it modulo `block_size`, and whole blocks
// around it. `slack` fills those blocks at first; what the engine leaves there is its own affair.
class IoMemory {
 public:
  IoMemory(std::uint64_t offset, std::size_t length, std::size_t block_size,
           std::byte slack = std::byte{0xee});

  std::byte* bytes() const noexcept { return memory_.get() + lead_; }
  std::size_t length() const noexcept { return length_; }
  void fill(std::byte value) const noexcept;
  Bytes copy() const { return {bytes(), bytes() + length_}; }

 private:
  struct Free {
    void operator()(std::byte* memory) const noexcept { std::free(memory); }
  };
  std::size_t lead_;
  std::size_t length_;
  std::unique_ptr<std::byte[], Free> memory_;
};

class TestIo final : public engine::Io {
 public:
  TestIo(engine::Operation wanted, std::uint64_t at, std::uint64_t size,
         std::byte* memory = nullptr);
  void complete(std::int64_t result) noexcept override;

  bool is_complete() const noexcept { return completions_ != 0; }
  std::size_t completions() const noexcept { return completions_; }
  std::int64_t result() const noexcept { return result_; }

  std::function<void()> on_complete;  // run inside complete()

 private:
  std::size_t completions_ = 0;
  std::int64_t result_ = 0;
};

// As the worker's turn does, until done() says so. False: nothing happened for ten seconds.
bool drive(engine::IoQueue& queue, const std::function<bool()>& done);

// Submits, drives and returns the result; no value when the queue got stuck.
std::optional<std::int64_t> run(engine::IoQueue& queue, TestIo& io);

// Whether the descriptor is readable now.
bool is_readable(int fd);

// The bytes of a range; empty when the read fails.
Bytes read_bytes(engine::IoQueue& queue, std::uint64_t offset, std::size_t length,
                 std::size_t block_size);
// The result of writing them.
std::int64_t write_bytes(engine::IoQueue& queue, std::uint64_t offset, const Bytes& bytes,
                         std::size_t block_size, bool fua = false);

}  // namespace test
