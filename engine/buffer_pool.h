// Aligned buffers in size classes under one budget. Used by one thread.
//
// Fairness: whoever already holds many bytes may take more only while at least as many are free
// (held + size <= free). One taker gets at most half of the budget, n takers 1/(n+1) each, so that
// somebody who never gives back cannot starve the others.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <utility>
#include <vector>

namespace engine {

inline constexpr std::size_t buffer_size_min = 4U << 10;  // bytes
inline constexpr std::size_t buffer_size_max =
    1U << 20;  // bytes: the largest class, a power of two times the least
inline constexpr std::size_t buffer_alignment = 4096;  // bytes

class BufferPool {
 public:
  // Memory of one taker; gives itself back. Must not outlive the pool.
  class Buffer {
   public:
    Buffer() = default;
    Buffer(Buffer&& other) noexcept
        : pool_(std::exchange(other.pool_, nullptr)),
          memory_(std::exchange(other.memory_, nullptr)),
          size_(std::exchange(other.size_, 0)) {}
    Buffer& operator=(Buffer&& other) noexcept {
      if (this != &other) {
        reset();
        pool_ = std::exchange(other.pool_, nullptr);
        memory_ = std::exchange(other.memory_, nullptr);
        size_ = std::exchange(other.size_, 0);
      }
      return *this;
    }
    ~Buffer() { reset(); }

    explicit operator bool() const noexcept { return memory_ != nullptr; }
    std::byte* memory() const noexcept { return memory_; }  // aligned to buffer_alignment
    std::size_t size() const noexcept { return size_; }     // bytes: that of the class
    void reset() noexcept {
      if (pool_ != nullptr)
        std::exchange(pool_, nullptr)
            ->give_back(std::exchange(memory_, nullptr), std::exchange(size_, 0));
    }

   private:
    friend class BufferPool;
    Buffer(BufferPool& pool, std::byte* memory, std::size_t size) noexcept
        : pool_(&pool), memory_(memory), size_(size) {}

    BufferPool* pool_ = nullptr;
    std::byte* memory_ = nullptr;
    std::size_t size_ = 0;
  };

  // `budget` in bytes, at least buffer_size_max. `resident`: whatever is taken has its memory from
  // now on, for those who must not ask the kernel for any later; that is the budget once for each
  // size class.
  explicit BufferPool(std::size_t budget, bool resident = false);
  ~BufferPool();
  BufferPool(const BufferPool&) = delete;
  BufferPool& operator=(const BufferPool&) = delete;

  // A buffer of the class that holds `wanted` bytes (<= buffer_size_max), or the largest smaller
  // class that holds `least` bytes and that the budget and the rule above allow; empty when there
  // is none. `held`: bytes of the buffers the taker holds already.
  Buffer take(std::size_t wanted, std::size_t least, std::size_t held) noexcept;

  std::size_t budget() const noexcept { return budget_; }
  std::size_t in_use() const noexcept { return in_use_; }  // bytes held by takers
  std::size_t free() const noexcept {
    return budget_ - in_use_;
  }  // bytes, cached or not yet allocated

 private:
  static constexpr std::size_t class_count = 9;
  static_assert(buffer_size_min << (class_count - 1) == buffer_size_max);

  // The buffers of one size lie side by side in a reservation of address space as large as the
  // budget, so that a class can have all of it. Each is in use, cached, bare, or beyond `opened`.
  struct SizeClass {
    std::size_t size = 0;            // bytes of a buffer
    std::byte* reserved = nullptr;   // the reservation
    std::size_t opened = 0;          // bytes from its beginning that are readable and writable
    std::vector<std::byte*> cached;  // free, with memory behind them; the last one is the warmest
    std::vector<std::byte*> bare;    // free, their memory handed back to the kernel
  };

  std::byte* take_from(SizeClass& size_class) noexcept;
  bool make_room(std::size_t size) noexcept;
  bool open_more(SizeClass& size_class) noexcept;
  void fill(SizeClass& size_class) noexcept;
  void give_back(std::byte* memory, std::size_t size) noexcept;
  bool invariants() const noexcept;

  const std::size_t budget_;
  const bool resident_;
  std::size_t in_use_ = 0;
  std::size_t cached_ =
      0;  // bytes; unless resident, in_use_ + cached_ <= budget_ is all the memory there is
  std::array<SizeClass, class_count> classes_;
};

}  // namespace engine
