#include "server/export/partition.h"

#include <unistd.h>

#include <array>
#include <catch2/catch.hpp>
#include <cstdio>
#include <map>
#include <random>

namespace {

constexpr std::size_t sector_size = 512;
constexpr std::size_t disk_sectors = 4096;

// An image with an MBR that is written by hand, removed at the end.
class Disk {
 public:
  Disk() {
    fd_ = ::mkstemp(path.data());
    REQUIRE(fd_ >= 0);
    REQUIRE(::ftruncate(fd_, static_cast<off_t>(disk_sectors * sector_size)) == 0);
  }
  ~Disk() {
    ::close(fd_);
    std::remove(path.c_str());
  }
  Disk(const Disk&) = delete;
  Disk& operator=(const Disk&) = delete;

  // Entry `index` of the boot record in a sector; start and count in sectors.
  void set_entry(std::uint32_t sector, std::uint32_t index, std::uint8_t type, std::uint32_t start,
                 std::uint32_t count) {
    auto& record = records_[sector];
    auto* const entry = &record[446 + 16 * std::size_t{index}];
    entry[4] = type;
    for (auto byte = 0U; byte < 4; ++byte) {
      entry[8 + byte] = static_cast<std::uint8_t>(start >> (8 * byte));
      entry[12 + byte] = static_cast<std::uint8_t>(count >> (8 * byte));
    }
    record[510] = 0x55;
    record[511] = 0xaa;
    write(sector * sector_size, record);
  }

  template <std::size_t N>
  void write(std::size_t offset, const std::array<std::uint8_t, N>& bytes) {
    REQUIRE(::pwrite(fd_, bytes.data(), N, static_cast<off_t>(offset)) == static_cast<ssize_t>(N));
  }

  void truncate(std::size_t size) { REQUIRE(::ftruncate(fd_, static_cast<off_t>(size)) == 0); }

  std::string path = "/tmp/loopnbd-partition-XXXXXX";

 private:
  int fd_ = -1;
  std::map<std::uint32_t, std::array<std::uint8_t, sector_size>> records_;
};

constexpr std::uint8_t type_linux = 0x83;
constexpr std::uint8_t type_extended = 0x05;

// Two primary partitions, and an extended one with two logical ones.
void partition_disk(Disk& disk) {
  disk.set_entry(0, 0, type_linux, 64, 100);
  disk.set_entry(0, 1, type_linux, 200, 300);
  disk.set_entry(0, 2, type_extended, 1000, 2000);
  disk.set_entry(1000, 0, type_linux, 10, 90);
  disk.set_entry(1000, 1, type_extended, 500, 600);
  disk.set_entry(1500, 0, type_linux, 20, 80);
}

}  // namespace

TEST_CASE("partitions are found by their numbers, logical ones as well") {
  auto disk = Disk();
  partition_disk(disk);
  struct Case {
    const char* wanted;
    std::uint64_t start;  // sectors
    std::uint64_t count;  // sectors
  };
  for (const auto& [wanted, start, count] :
       {Case{"1", 64, 100}, Case{"2", 200, 300}, Case{"5", 1010, 90}, Case{"6", 1520, 80}}) {
    CAPTURE(wanted);
    const auto found = server::find_partition(disk.path, wanted);
    CHECK(found.offset == start * sector_size);
    CHECK(found.size == count * sector_size);
  }
}

TEST_CASE("what is no partition is refused with those that there are") {
  auto disk = Disk();
  partition_disk(disk);
  using Catch::Contains;
  CHECK_THROWS_WITH(server::find_partition(disk.path, "4"),
                    Contains("no partition has the number \"4\"") &&
                        Contains("1 (51200 bytes at 32768") &&
                        Contains("6 (40960 bytes at 778240"));
  CHECK_THROWS_WITH(server::find_partition(disk.path, "root"), Contains("label or UUID \"root\""));
  CHECK_THROWS_WITH(server::find_partition(disk.path, "02"), Contains("no partition has"));
  CHECK_THROWS_WITH(server::find_partition(disk.path, "3"), Contains("extended"));
  CHECK_THROWS_WITH(server::find_partition("/does/not/exist", "1"),
                    Contains("/does/not/exist") && Contains("No such file"));
  CHECK_THROWS_WITH(server::find_partition("/dev/null", "1"), Contains("neither a regular file"));
  CHECK_THROWS_WITH(server::find_partition("/tmp", "1"), Contains("neither a regular file"));
}

TEST_CASE("a file without a partition table is refused") {
  auto disk = Disk();
  CHECK_THROWS_WITH(server::find_partition(disk.path, "1"), Catch::Contains("no partition table"));
  disk.truncate(0);
  CHECK_THROWS_WITH(server::find_partition(disk.path, "1"), Catch::Contains("cannot"));
}

TEST_CASE("a partition beyond the end of a shortened image is refused") {
  auto disk = Disk();
  partition_disk(disk);
  disk.truncate(400 * sector_size);
  CHECK(server::find_partition(disk.path, "1").size == 100 * sector_size);
  CHECK_THROWS_WITH(server::find_partition(disk.path, "2"), Catch::Contains("cut short"));
}

TEST_CASE("logical partitions that form a ring come to an end") {
  auto disk = Disk();
  disk.set_entry(0, 0, type_extended, 1000, 2000);
  disk.set_entry(1000, 0, type_linux, 10, 90);
  disk.set_entry(1000, 1, type_extended, 0, 100);
  CHECK(server::find_partition(disk.path, "5").offset == 1010 * sector_size);
}

TEST_CASE("whatever a partition table says, the window is inside the image or it is refused") {
  auto random = std::mt19937(1);
  auto found_count = 0;
  for (auto round = 0; round < 300; ++round) {
    auto disk = Disk();
    partition_disk(disk);
    for (const auto sector : {0U, 1000U, 1500U}) {
      for (auto change = 0; change < 3; ++change) {
        const auto byte = std::array{static_cast<std::uint8_t>(random())};
        disk.write(sector * sector_size + 446 + random() % 64, byte);
      }
    }
    for (const auto* const wanted : {"1", "2", "3", "5", "6", "7"}) {
      try {
        const auto found = server::find_partition(disk.path, wanted);
        REQUIRE(found.size > 0);
        REQUIRE(found.offset + found.size <= disk_sectors * sector_size);
        ++found_count;
      } catch (const server::PartitionError& error) {
        REQUIRE(std::string(error.what()).find(disk.path) != std::string::npos);
      }
    }
  }
  CHECK(found_count > 0);
}
