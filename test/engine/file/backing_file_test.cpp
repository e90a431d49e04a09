#include "engine/file/backing_file.h"

#include <fcntl.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <catch2/catch.hpp>
#include <cerrno>
#include <string>
#include <vector>

#include "test/engine/opened_file.h"

using namespace engine;
using namespace test;

namespace {

Bytes bytes(std::size_t length, int value) { return Bytes(length, std::byte(value)); }

FileTraits traits_of(const std::string& path, std::uint64_t size) {
  FileTraits traits;
  traits.path = path;
  traits.size = size;
  return traits;
}

}  // namespace

TEST_CASE("a sync that failed fails for good and is reported once") {
  // fdatasync is not possible on a pipe.
  std::array<int, 2> ends{};
  REQUIRE(::pipe2(ends.data(), O_CLOEXEC) == 0);
  const FileDescriptor reading_end(ends[0]);
  Reports reports;
  BackingFile file({}, FileDescriptor(ends[1]), traits_of("a disk", 4096),
                   [&](std::string_view line) { reports.add(line); });
  CHECK(file.sync_error() == 0);
  CHECK(file.sync() == -EINVAL);
  CHECK(file.sync_error() == -EINVAL);
  CHECK(file.note_sync_failure(-EIO) == -EINVAL);
  CHECK(file.sync() == -EINVAL);
  REQUIRE(reports.lines().size() == 1);
  CHECK_THAT(reports.lines()[0], Catch::Contains("a disk") && Catch::Contains("sync failed"));
}

TEST_CASE("after a failed sync durable writes fail, too, and plain ones go on") {
  OpenedFile opened(8192, false);
  opened.file.note_sync_failure(-EIO);
  CHECK(opened.file.write(0, bytes(10, 1), true) == -EIO);
  CHECK(opened.file.write(0, bytes(10, 2), false) == 0);
  CHECK(opened.temporary.read(0, 10) == bytes(10, 2));
}

TEST_CASE("a durable write that is refused for want of space does not count as a failed sync") {
  OpenedFile opened(65536, false);
  const FileSizeLimit limit(4096);
  CHECK(opened.file.write(8192, bytes(10, 1), true) == -EFBIG);
  CHECK(opened.file.sync_error() == 0);
  CHECK(opened.file.write(0, bytes(10, 1), true) == 0);
}

TEST_CASE("a durable write that is not allowed does not count as a failed sync") {
  const TemporaryFile temporary(memory_folder(), 4096);
  BackingFile file({}, open_fd(temporary.path(), O_RDONLY), traits_of("a disk", 4096),
                   [](std::string_view) {});
  CHECK(file.write(0, bytes(10, 1), false) == -EBADF);
  CHECK(file.sync_error() == 0);
  CHECK(file.write(0, bytes(10, 1), true) == -EBADF);
  CHECK(file.sync_error() == 0);
}

TEST_CASE("only errors that a sync may give are told from refusals") {
  for (const int error : {EPERM, EACCES, EINVAL, EBADF, EFAULT, ETXTBSY, EFBIG, ENOSPC, EDQUOT}) {
    CAPTURE(error);
    CHECK(BackingFile::is_refusal(-error));
  }
  for (const int error : {EIO, EROFS, ENXIO, ENODEV, ETIMEDOUT, EREMOTEIO, ENOMEM}) {
    CAPTURE(error);
    CHECK_FALSE(BackingFile::is_refusal(-error));
  }
}

TEST_CASE("reads beyond the end of a file that shrank fail, once with a line for people") {
  OpenedFile opened(65536, false);
  opened.temporary.resize(10000);
  Bytes memory(4096);
  CHECK(opened.file.read(0, memory) == 0);
  CHECK(opened.file.read(8192, memory) == -EIO);
  CHECK(opened.file.read(12288, memory) == -EIO);
  REQUIRE(opened.reports.lines().size() == 1);
  CHECK_THAT(opened.reports.lines()[0], Catch::Contains(opened.temporary.path()));
}

TEST_CASE("long ranges are cut into bounded pieces, at the sectors of a block device") {
  struct Case {
    std::uint64_t offset, length;
    bool written;
    std::uint64_t piece, device_piece;
  };
  const std::uint64_t mib = 1U << 20;
  for (const auto& [offset, length, written, piece, device_piece] : std::vector<Case>{
           {0, 100, false, 100, 100},
           {0, 1ULL << 32, false, 3584, 3584},  // from 512 in the file to its next sector
           {3584, 1ULL << 32, false, 8 * mib - 4096, 128 * mib - 4096},
           {8 * mib - 512, 1ULL << 32, false, 8 * mib, 120 * mib},
           {3584, 1ULL << 32, true, 8 * mib - 4096, 8 * mib - 4096},
           {3584, 4096 + 100, false, 4096, 4096},
           {3584, 4096, false, 4096, 4096},
           {3584, 100, false, 100, 100},
       }) {
    for (const bool block_device : {false, true}) {
      CAPTURE(offset, length, written, block_device);
      auto traits = traits_of("a disk", 1ULL << 40);
      traits.sector_size = 4096;
      traits.window_offset = 512;
      traits.block_device = block_device;
      const BackingFile file({}, {}, traits, [](std::string_view) {});
      CHECK(file.piece_length(offset, length, written) == (block_device ? device_piece : piece));
    }
  }
}

TEST_CASE("zeroing works on any file system, and says beforehand when it would be slow") {
  const auto folder = GENERATE(disk_folder(), memory_folder());
  const bool no_hole = GENERATE(false, true);
  CAPTURE(folder, no_hole);
  OpenedFile opened(1U << 20, false, folder);
  opened.temporary.write(0, bytes(1U << 20, 7));

  const int fast = opened.file.zero(4096, 8192, no_hole, true);
  if (fast != 0) {
    CHECK(fast == -EOPNOTSUPP);
    CHECK_FALSE(opened.file.can_zero_fast(no_hole));
    CHECK(opened.temporary.read(0, 1U << 20) == bytes(1U << 20, 7));
  }
  CHECK(opened.file.zero(4096, 8192, no_hole, false) == 0);
  auto expected = bytes(1U << 20, 7);
  std::fill_n(expected.begin() + 4096, 8192, std::byte{0});
  CHECK(opened.temporary.read(0, 1U << 20) == expected);
  CHECK(opened.temporary.size() == 1U << 20);
  if (no_hole) CHECK(opened.temporary.allocated() >= 1U << 20);
}

TEST_CASE("a file system without fallocate is noticed at the first try") {
  auto traits = traits_of("a disk", 4096);
  traits.can_discard = traits.can_punch = true;
  // A regular file of a file system that has none.
  BackingFile file({}, open_fd("/proc/self/comm", O_RDWR), traits, [](std::string_view) {});
  CHECK(file.discard(0, 4096) == 0);
  CHECK(file.can_zero_fast(false));
  CHECK(file.zero(0, 4096, false, true) == -EOPNOTSUPP);
  CHECK_FALSE(file.can_zero_fast(false));
  CHECK_FALSE(file.can_zero_fast(true));
}

TEST_CASE("extents tell holes from data, and holes only where zeroes are certain") {
  OpenedFile opened(1U << 20, false);
  opened.temporary.write(65536, bytes(65536, 1));
  std::array<Extent, 8> extents;
  REQUIRE(opened.file.extents(0, 1U << 20, extents) == 3);
  const std::array<std::uint64_t, 3> lengths{65536, 65536, (1U << 20) - 131072};
  for (std::size_t i = 0; i < 3; ++i) {
    CAPTURE(i);
    CHECK(extents[i].length == lengths[i]);
    CHECK(extents[i].hole == (i != 1));
    CHECK(extents[i].zero == (i != 1));
  }
  CHECK(opened.file.extents(0, 1U << 20, std::span(extents).first(1)) == 1);
  CHECK(opened.file.extents(100000, 10, extents) == 1);
  CHECK(extents[0].length == 10);
  CHECK_FALSE(extents[0].zero);

  opened.temporary.resize(200000);  // behind it reads fail
  REQUIRE(opened.file.extents(900000, 1000, extents) == 1);
  CHECK_FALSE(extents[0].zero);
}
