#include "engine/file/file_queue.h"

#include <cassert>
#include <utility>

#include "engine/check.h"

namespace engine {

FileQueue::FileQueue(BackingFile& file, BlockingPool& pool)
    : file_(file), lane_(file, pool, wakeup_) {}

FileQueue::~FileQueue() { assert(in_flight_ == 0); }

void FileQueue::submit(Io& io) noexcept {
  ++in_flight_;
  waiting_.push_back(io);
}

void FileQueue::finish_later(Io& io, std::int64_t result) noexcept {
  IoAccess::emplace<std::int64_t>(io, result);
  finished_.push_back(io);
}

void FileQueue::wake_for_finished() const noexcept {
  if (!finished_.empty()) wakeup_.signal();
}

std::size_t FileQueue::harvest_finished() noexcept {
  std::size_t count = 0;
  for (auto list = lane_.take_finished(); Io* const io = list.pop_front(); ++count)
    complete(*io, BlockingLane::result(*io));
  for (auto list = std::exchange(finished_, IoList()); Io* const io = list.pop_front(); ++count)
    complete(*io, IoAccess::get<std::int64_t>(*io));
  return count;
}

void FileQueue::complete(Io& io, std::int64_t result) noexcept {
  LOOPNBD_ASSERT(in_flight_ > 0);
  --in_flight_;
  io.complete(result);
}

bool FileQueue::invariants() const noexcept {
  return waiting_.size() + finished_.size() <= in_flight_;
}

}  // namespace engine
