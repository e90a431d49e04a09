#include "engine/file/window_lock.h"

#include <fcntl.h>
#include <unistd.h>

#include <algorithm>
#include <catch2/catch.hpp>
#include <fstream>
#include <string>
#include <vector>

#include "engine/file_descriptor.h"
#include "test/engine/opened_file.h"

using namespace engine;
using namespace test;

namespace {

constexpr std::uint64_t mib = 1U << 20;
constexpr LockRange whole{};
constexpr LockRange first_half{.offset = 0, .length = mib / 2};
constexpr LockRange second_half{.offset = mib / 2, .length = mib / 2};

// Open files with their locks, as a server and others have them.
struct Holder {
  Holder(const TemporaryFile& image, LockMode wanted, LockRange window = whole)
      : file(open_fd(image.path(), wanted == LockMode::writing ? O_RDWR : O_RDONLY)),
        range(window),
        mode(wanted),
        lock([this](std::string_view line) { reports.add(line); }) {}

  LockAnswer take(const std::vector<const WindowLock*>& predecessors = {}) {
    return lock.take(file.get(), range, mode, predecessors);
  }

  Reports reports;
  FileDescriptor file;
  LockRange range;
  LockMode mode;
  WindowLock lock;
};

// The lock that others meet: "" none, "r" a reader's, "w" a writer's.
std::string lock_seen(const TemporaryFile& image, const LockRange& range = whole) {
  const auto writer = open_fd(image.path(), O_RDWR);
  if (change_lock(writer.get(), range, LockMode::none, LockMode::writing) == LockAnswer::locked)
    return "";
  const auto reader = open_fd(image.path(), O_RDONLY);
  const auto answer = change_lock(reader.get(), range, LockMode::none, LockMode::reading);
  return answer == LockAnswer::locked ? "r" : "w";
}

std::string name_of(LockMode mode) { return mode == LockMode::writing ? "w" : "r"; }

}  // namespace

TEST_CASE("a lock passes to a successor at commit, and stays where it was without it") {
  const TemporaryFile image(disk_folder(), mib);
  const auto before = GENERATE(LockMode::reading, LockMode::writing);
  const auto after = GENERATE(LockMode::reading, LockMode::writing);
  CAPTURE(name_of(before), name_of(after));
  auto old = std::make_unique<Holder>(image, before);
  REQUIRE(old->take() == LockAnswer::locked);
  {
    Holder given_up(image, after);
    REQUIRE(given_up.take({&old->lock}) == LockAnswer::locked);
    CHECK(lock_seen(image) == name_of(before));
  }
  CHECK(lock_seen(image) == name_of(before));
  {
    Holder undone(image, after);
    REQUIRE(undone.take({&old->lock}) == LockAnswer::locked);
    REQUIRE(undone.lock.claim() == LockAnswer::locked);
  }
  CHECK(lock_seen(image) == name_of(before));
  CHECK(old->reports.lines().empty());
  Holder successor(image, after);
  REQUIRE(successor.take({&old->lock}) == LockAnswer::locked);
  REQUIRE(successor.lock.claim() == LockAnswer::locked);
  successor.lock.commit();
  CHECK(lock_seen(image) == name_of(after));
  old.reset();
  CHECK(lock_seen(image) == name_of(after));
  CHECK(successor.reports.lines().empty());
}

TEST_CASE("a reader keeps its lock when another reader refuses the writer in its place") {
  const TemporaryFile image(disk_folder(), mib);
  Holder old(image, LockMode::reading);
  REQUIRE(old.take() == LockAnswer::locked);
  Holder other(image, LockMode::reading);
  REQUIRE(other.take() == LockAnswer::locked);
  {
    Holder writer(image, LockMode::writing);
    REQUIRE(writer.take({&old.lock}) == LockAnswer::locked);
    CHECK(writer.lock.claim() == LockAnswer::held_by_window);
    CHECK(lock_seen(image) == "r");
    other.file.reset();
    // Only the old one's and the reader's that wants to write are left.
    CHECK(lock_seen(image) == "r");
  }
  CHECK(lock_seen(image) == "r");
  Holder writer(image, LockMode::writing);
  CHECK(writer.take({&old.lock}) == LockAnswer::locked);
  CHECK(writer.lock.claim() == LockAnswer::locked);
}

TEST_CASE("several readers give way to one writer") {
  const TemporaryFile image(disk_folder(), mib);
  Holder one(image, LockMode::reading);
  Holder other(image, LockMode::reading, first_half);
  REQUIRE(one.take() == LockAnswer::locked);
  REQUIRE(other.take() == LockAnswer::locked);
  Holder writer(image, LockMode::writing);
  REQUIRE(writer.take({&one.lock, &other.lock}) == LockAnswer::locked);
  CHECK(lock_seen(image) == "r");
  REQUIRE(writer.lock.claim() == LockAnswer::locked);
  CHECK(lock_seen(image) == "w");
}

TEST_CASE("a window grows and shrinks only over what nobody else has") {
  const TemporaryFile image(disk_folder(), mib);
  Holder old(image, LockMode::writing, first_half);
  REQUIRE(old.take() == LockAnswer::locked);
  {
    Holder neighbour(image, LockMode::writing, second_half);
    REQUIRE(neighbour.take() == LockAnswer::locked);
    Holder larger(image, LockMode::writing);
    CHECK(larger.take({&old.lock}) == LockAnswer::held_by_window);
    CHECK(lock_seen(image, first_half) == "w");
  }
  CHECK(lock_seen(image, second_half).empty());
  Holder larger(image, LockMode::writing);
  REQUIRE(larger.take({&old.lock}) == LockAnswer::locked);
  REQUIRE(larger.lock.claim() == LockAnswer::locked);
  larger.lock.commit();
  CHECK(lock_seen(image, second_half) == "w");
  // In two: neither has what belongs to the other.
  Holder first(image, LockMode::writing, first_half);
  Holder second(image, LockMode::writing, second_half);
  CHECK(first.take({&larger.lock}) == LockAnswer::locked);
  CHECK(second.take({&larger.lock}) == LockAnswer::locked);
}

TEST_CASE("a window that has become smaller may become larger again") {
  const TemporaryFile image(disk_folder(), mib);
  auto old = std::make_unique<Holder>(image, LockMode::writing);
  REQUIRE(old->take() == LockAnswer::locked);
  Holder smaller(image, LockMode::writing, first_half);
  REQUIRE(smaller.take({&old->lock}) == LockAnswer::locked);
  REQUIRE(smaller.lock.claim() == LockAnswer::locked);
  smaller.lock.commit();
  old.reset();
  Holder larger(image, LockMode::writing);
  REQUIRE(larger.take({&smaller.lock}) == LockAnswer::locked);
  REQUIRE(larger.lock.claim() == LockAnswer::locked);
  larger.lock.commit();
  CHECK(lock_seen(image, second_half) == "w");
}

TEST_CASE("a former writer lends no lock for writing that has become one for reading") {
  const TemporaryFile image(disk_folder(), mib);
  Holder old(image, LockMode::writing);
  REQUIRE(old.take() == LockAnswer::locked);
  Holder reader(image, LockMode::reading);
  REQUIRE(reader.take({&old.lock}) == LockAnswer::locked);
  REQUIRE(reader.lock.claim() == LockAnswer::locked);
  reader.lock.commit();
  Holder stranger(image, LockMode::reading);
  REQUIRE(stranger.take() == LockAnswer::locked);
  Holder writer(image, LockMode::writing);
  const auto taken = writer.take({&old.lock, &reader.lock}) == LockAnswer::locked;
  CHECK_FALSE((taken && writer.lock.claim() == LockAnswer::locked));
  CHECK(lock_seen(image) == "r");
}
