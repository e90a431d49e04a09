#include "engine/file/file_lock.h"

#include <fcntl.h>

#include <array>
#include <catch2/catch.hpp>
#include <string>
#include <vector>

#include "engine/file_descriptor.h"
#include "test/engine/opened_file.h"

using namespace engine;
using namespace test;

namespace {

constexpr LockRange whole{};
constexpr LockRange second_half{.offset = 65536, .length = 65536};
constexpr LockRange first_half{.offset = 0, .length = 65536};

struct flock make_lock(short type, off_t offset, off_t length) {
  struct flock lock {};
  lock.l_type = type;
  lock.l_whence = SEEK_SET;
  lock.l_start = offset;
  lock.l_len = length;
  return lock;
}

bool set(const FileDescriptor& file, short type, off_t offset, off_t length) {
  auto lock = make_lock(type, offset, length);
  return ::fcntl(file.get(), F_OFD_SETLK, &lock) == 0;
}

// Another program that holds locks of bytes as qemu does, and looks for those of others.
class Machine {
 public:
  Machine(const TemporaryFile& image, std::vector<int> uses, std::vector<int> does_not_share)
      : file_(open_fd(image.path(), O_RDWR)) {
    for (const auto bit : uses) {
      REQUIRE(set(file_, F_RDLCK, 100 + bit, 1));
      starts_ = starts_ && !others_have(200 + bit);
    }
    for (const auto bit : does_not_share) {
      REQUIRE(set(file_, F_RDLCK, 200 + bit, 1));
      starts_ = starts_ && !others_have(100 + bit);
    }
  }
  bool starts() const { return starts_; }

 private:
  bool others_have(int byte) const {
    auto lock = make_lock(F_WRLCK, byte, 1);
    REQUIRE(::fcntl(file_.get(), F_OFD_GETLK, &lock) == 0);
    return lock.l_type != F_UNLCK;
  }

  const FileDescriptor file_;
  bool starts_ = true;
};

struct Program {
  std::string what;
  std::vector<int> uses;
  std::vector<int> does_not_share;
  bool reads_only;
};

// 0 reading, 1 writing, 3 resizing.
const std::array programs{
    Program{"qemu-io -r", {0}, {}, true},
    Program{"qemu-nbd -r", {0}, {3}, true},
    Program{"a machine's disk, read-only", {0}, {1, 3}, true},
    Program{"a machine's disk", {0, 1}, {1, 3}, false},
    Program{"qemu-img create", {0, 1, 3}, {}, false},
    Program{"qemu-io", {0, 1}, {}, false},
};

LockAnswer lock(const FileDescriptor& file, const LockRange& range, LockMode mode) {
  return change_lock(file.get(), range, LockMode::none, mode);
}

}  // namespace

TEST_CASE("readers share an image with qemu when it reads, in either order, and writers never do") {
  const TemporaryFile image(disk_folder(), 1U << 20);
  const auto range = GENERATE(whole, first_half, second_half);
  for (const auto& program : programs) {
    for (const auto mode : {LockMode::reading, LockMode::writing}) {
      CAPTURE(program.what, range.offset, mode == LockMode::writing);
      const bool share = program.reads_only && mode == LockMode::reading;
      {
        const auto file = open_fd(image.path(), O_RDWR);
        REQUIRE(lock(file, range, mode) == LockAnswer::locked);
        CHECK(Machine(image, program.uses, program.does_not_share).starts() == share);
      }
      const auto file = open_fd(image.path(), O_RDWR);
      {
        const Machine machine(image, program.uses, program.does_not_share);
        REQUIRE(machine.starts());
        CHECK(lock(file, range, mode) == (share ? LockAnswer::locked : LockAnswer::held_by_qemu));
      }
      // A refused lock leaves nothing behind that is in anybody's way.
      CHECK(Machine(image, {0, 1}, {1, 3}).starts() == !share);
    }
  }
}

TEST_CASE("windows decide among loopnbds, whoever reads and writes beside them") {
  const TemporaryFile image(disk_folder(), 1U << 20);
  struct Case {
    LockRange one, other;
    bool overlap;
  };
  const auto [one, other, overlap] = GENERATE(values<Case>({{whole, whole, true},
                                                            {whole, second_half, true},
                                                            {first_half, second_half, false},
                                                            {first_half, {0, 512}, true},
                                                            {second_half, {0, 0}, true}}));
  for (const auto first : {LockMode::reading, LockMode::writing}) {
    for (const auto second : {LockMode::reading, LockMode::writing}) {
      CAPTURE(one.offset, other.offset, first == LockMode::writing, second == LockMode::writing);
      const auto holder = open_fd(image.path(), O_RDWR);
      const auto comer = open_fd(image.path(), O_RDWR);
      REQUIRE(lock(holder, one, first) == LockAnswer::locked);
      const bool at_odds = overlap && (first == LockMode::writing || second == LockMode::writing);
      CHECK(lock(comer, other, second) ==
            (at_odds ? LockAnswer::held_by_window : LockAnswer::locked));
    }
  }
}

TEST_CASE("a loopnbd that locks all bytes of its window, as former ones did, is at odds as ever") {
  const TemporaryFile image(disk_folder(), 1U << 20);
  for (const auto former : {F_RDLCK, F_WRLCK}) {
    for (const auto mode : {LockMode::reading, LockMode::writing}) {
      CAPTURE(former == F_WRLCK, mode == LockMode::writing);
      const bool share = former == F_RDLCK && mode == LockMode::reading;
      const auto holder = open_fd(image.path(), O_RDWR);
      const auto comer = open_fd(image.path(), O_RDWR);
      REQUIRE(set(holder, static_cast<short>(former), 0, 0));
      CHECK(lock(comer, whole, mode) == (share ? LockAnswer::locked : LockAnswer::held_by_window));
      REQUIRE(set(holder, F_UNLCK, 0, 0));
      REQUIRE((share || lock(comer, whole, mode) == LockAnswer::locked));
      CHECK(set(holder, static_cast<short>(former), 0, 0) == share);
    }
  }
}

TEST_CASE("a lock is changed, or stays what it was") {
  const TemporaryFile image(disk_folder(), 1U << 20);
  const auto file = open_fd(image.path(), O_RDWR);
  REQUIRE(lock(file, whole, LockMode::reading) == LockAnswer::locked);
  {
    const Machine reader(image, {0}, {1, 3});
    REQUIRE(reader.starts());
    CHECK(change_lock(file.get(), whole, LockMode::reading, LockMode::writing) ==
          LockAnswer::held_by_qemu);
    CHECK(Machine(image, {0}, {1, 3}).starts());
    CHECK_FALSE(Machine(image, {0, 1}, {}).starts());
  }
  const auto comer = open_fd(image.path(), O_RDWR);
  CHECK(change_lock(file.get(), whole, LockMode::reading, LockMode::writing) == LockAnswer::locked);
  CHECK(lock(comer, whole, LockMode::reading) == LockAnswer::held_by_window);
  CHECK_FALSE(Machine(image, {0}, {}).starts());
  CHECK(change_lock(file.get(), whole, LockMode::writing, LockMode::reading) == LockAnswer::locked);
  CHECK(Machine(image, {0}, {1, 3}).starts());
  CHECK(change_lock(file.get(), whole, LockMode::reading, LockMode::none) == LockAnswer::locked);
  CHECK(Machine(image, {0, 1}, {0, 1, 3}).starts());
  CHECK(lock(comer, whole, LockMode::writing) == LockAnswer::locked);
}

TEST_CASE("a file that is open for reading only cannot be locked for writing") {
  const TemporaryFile image(disk_folder(), 1U << 20);
  const auto file = open_fd(image.path(), O_RDONLY);
  CHECK(lock(file, whole, LockMode::writing) == LockAnswer::failed);
  CHECK(errno == EBADF);
  CHECK(lock(file, whole, LockMode::reading) == LockAnswer::locked);
}
