#include "engine/buffer_pool.h"

#include <sys/mman.h>

#include <algorithm>
#include <bit>
#include <cassert>
#include <cerrno>
#include <system_error>

#include "engine/check.h"

#if defined(__SANITIZE_ADDRESS__)
#include <sanitizer/asan_interface.h>
#else
#define ASAN_POISON_MEMORY_REGION(address, size) (static_cast<void>(address))
#define ASAN_UNPOISON_MEMORY_REGION(address, size) (static_cast<void>(address))
#endif

namespace engine {
namespace {

// Opened at a time: few system calls while a pool grows, little to account for when it does not.
constexpr std::size_t open_step = buffer_size_max;  // bytes

std::size_t class_size(std::size_t size) noexcept {
  return std::bit_ceil(std::clamp(size, buffer_size_min, buffer_size_max));
}

std::size_t class_index(std::size_t size) noexcept {
  return static_cast<std::size_t>(std::countr_zero(size / buffer_size_min));
}

}  // namespace

BufferPool::BufferPool(std::size_t budget, bool resident) : budget_(budget), resident_(resident) {
  assert(budget >= buffer_size_max);
  for (std::size_t index = 0; index < class_count; ++index) {
    SizeClass& size_class = classes_[index];
    size_class.size = buffer_size_min << index;
    // No access: only address space, which no memory limit counts.
    void* const reserved =
        ::mmap(nullptr, budget_, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (reserved == MAP_FAILED) {
      const int error = errno;
      for (const SizeClass& made : classes_)
        if (made.reserved != nullptr) ::munmap(made.reserved, budget_);
      throw std::system_error(error, std::generic_category(),
                              "cannot reserve address space for buffers (see ulimit -v)");
    }
    // Huge pages would put memory behind neighbours that nobody took, and the budget would be no
    // limit any more. A kernel that has none says EINVAL, and that is fine.
    static_cast<void>(::madvise(reserved, budget_, MADV_NOHUGEPAGE));
    size_class.reserved = static_cast<std::byte*>(reserved);
    // So that giving back never allocates.
    size_class.cached.reserve(budget_ / size_class.size);
    size_class.bare.reserve(budget_ / size_class.size);
    if (resident_) fill(size_class);
  }
}

BufferPool::~BufferPool() {
  assert(in_use_ == 0);
  for (const SizeClass& size_class : classes_) {
    ASAN_UNPOISON_MEMORY_REGION(size_class.reserved, budget_);
    ::munmap(size_class.reserved, budget_);
  }
}

BufferPool::Buffer BufferPool::take(std::size_t wanted, std::size_t least,
                                    std::size_t held) noexcept {
  const std::size_t size_min = class_size(least);
  for (std::size_t size = class_size(wanted); size >= size_min; size /= 2) {
    if (held > free() || size > free() - held) continue;
    std::byte* const memory = take_from(classes_[class_index(size)]);
    if (memory == nullptr) continue;
    ASAN_UNPOISON_MEMORY_REGION(memory, size);
    in_use_ += size;
    LOOPNBD_ASSERT(invariants());
    return Buffer(*this, memory, size);
  }
  return {};
}

std::byte* BufferPool::take_from(SizeClass& size_class) noexcept {
  auto& cached = size_class.cached;
  if (!cached.empty()) {
    std::byte* const memory = cached.back();
    cached.pop_back();
    cached_ -= size_class.size;
    return memory;
  }
  auto& bare = size_class.bare;
  if (!make_room(size_class.size) || (bare.empty() && !open_more(size_class))) return nullptr;
  std::byte* const memory = bare.back();
  bare.pop_back();
  return memory;
}

// Lets go of cached buffers, of the class that has the most of them first, until the budget has
// room for `size` bytes more.
bool BufferPool::make_room(std::size_t size) noexcept {
  if (resident_) return true;  // each class has memory for all of the budget
  while (in_use_ + cached_ + size > budget_) {
    auto* const richest = &*std::max_element(
        classes_.begin(), classes_.end(), [](const SizeClass& one, const SizeClass& other) {
          return one.cached.size() * one.size < other.cached.size() * other.size;
        });
    if (richest->cached.empty()) return false;
    std::byte* const memory = richest->cached.front();
    ASAN_UNPOISON_MEMORY_REGION(memory, richest->size);
    if (::madvise(memory, richest->size, MADV_DONTNEED) != 0) return false;
    richest->cached.front() = richest->cached.back();
    richest->cached.pop_back();
    richest->bare.push_back(memory);
    cached_ -= richest->size;
  }
  return true;
}

bool BufferPool::open_more(SizeClass& size_class) noexcept {
  const std::size_t whole = budget_ - budget_ % size_class.size;
  const std::size_t step = std::min(open_step, whole - size_class.opened);
  if (step == 0) return false;
  std::byte* const begin = size_class.reserved + size_class.opened;
  if (::mprotect(begin, step, PROT_READ | PROT_WRITE) != 0) return false;
  ASAN_POISON_MEMORY_REGION(begin, step);
  size_class.opened += step;
  // The lowest address is taken first.
  for (std::size_t end = step; end > 0; end -= size_class.size)
    size_class.bare.push_back(begin + (end - size_class.size));
  return true;
}

void BufferPool::fill(SizeClass& size_class) noexcept {
  while (open_more(size_class)) continue;
  ASAN_UNPOISON_MEMORY_REGION(size_class.reserved, size_class.opened);
  for (std::size_t offset = 0; offset < size_class.opened; offset += buffer_size_min)
    const_cast<volatile std::byte&>(size_class.reserved[offset]) = std::byte{0};
  ASAN_POISON_MEMORY_REGION(size_class.reserved, size_class.opened);
}

void BufferPool::give_back(std::byte* memory, std::size_t size) noexcept {
  ASAN_POISON_MEMORY_REGION(memory, size);
  SizeClass& size_class = classes_[class_index(size)];
  assert(size_class.size == size && in_use_ >= size);
  LOOPNBD_ASSERT(memory >= size_class.reserved &&
                 memory < size_class.reserved + size_class.opened &&
                 static_cast<std::size_t>(memory - size_class.reserved) % size == 0);
  in_use_ -= size;
  cached_ += size;
  size_class.cached.push_back(memory);
  LOOPNBD_ASSERT(invariants());
}

// Each opened buffer is in use, cached or bare, and the bytes of each kind are as counted.
bool BufferPool::invariants() const noexcept {
  std::size_t in_use = 0;
  std::size_t cached = 0;
  for (const SizeClass& size_class : classes_) {
    const std::size_t opened = size_class.opened / size_class.size;
    const std::size_t free = size_class.cached.size() + size_class.bare.size();
    if (size_class.opened > budget_ || size_class.opened % size_class.size != 0) return false;
    if (free > opened) return false;
    in_use += (opened - free) * size_class.size;
    cached += size_class.cached.size() * size_class.size;
  }
  return in_use == in_use_ && cached == cached_ && in_use_ <= budget_ &&
         (resident_ || in_use_ + cached_ <= budget_);
}

}  // namespace engine
