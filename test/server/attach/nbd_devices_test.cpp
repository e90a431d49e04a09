#include "server/attach/nbd_devices.h"

#include <catch2/catch.hpp>
#include <cerrno>

#include "test/support/temporary_folder.h"

TEST_CASE("devices are listed in the order of their numbers, with what is behind them") {
  const auto sys = test::TemporaryFolder();
  sys.write("nbd10/size", "2048\n");
  sys.write("nbd10/ro", "1\n");
  sys.write("nbd10/pid", "77\n");
  sys.write("nbd10/backend", "/srv/disk with blanks.img\n");
  sys.write("nbd10/queue/logical_block_size", "4096\n");
  sys.write("nbd2/size", "0\n");
  sys.write("loop0/size", "8\n");
  sys.write("nbdx/size", "8\n");

  const auto devices = server::list_nbd_devices(sys.path());
  REQUIRE(devices.size() == 2);
  CHECK(devices[0].index == 2);
  CHECK_FALSE(devices[0].connected);
  CHECK_FALSE(devices[0].backend);
  CHECK(devices[1].index == 10);
  CHECK(devices[1].connected);
  CHECK(devices[1].read_only);
  CHECK(devices[1].size == 1U << 20);
  CHECK(devices[1].block_size == 4096);
  CHECK(devices[1].backend == "/srv/disk with blanks.img");
}

TEST_CASE("a connected device of a program that says nothing about it is listed") {
  const auto sys = test::TemporaryFolder();
  sys.write("nbd0/pid", "77\n");
  const auto devices = server::list_nbd_devices(sys.path());
  REQUIRE(devices.size() == 1);
  CHECK(devices[0].connected);
  CHECK_FALSE(devices[0].backend);
}

TEST_CASE("without the module there are no devices") {
  CHECK(server::list_nbd_devices("/nonexistent").empty());
}

TEST_CASE("whether a device is connected is asked where sysfs has it") {
  const auto sys = test::TemporaryFolder();
  sys.write("nbd0/pid", "77\n");
  sys.write("nbd1/size", "0\n");
  CHECK(server::nbd_device_may_be_connected(0, sys.path()));
  CHECK_FALSE(server::nbd_device_may_be_connected(1, sys.path()));
  CHECK(server::nbd_device_may_be_connected(2, sys.path()));
}

TEST_CASE("the I/O scheduler in use is the one in brackets, and another is written there") {
  const auto sys = test::TemporaryFolder();
  sys.write("nbd0/queue/scheduler", "[none] mq-deadline\n");
  sys.write("nbd1/queue/scheduler", "none [mq-deadline] bfq\n");
  sys.write("nbd2/queue/scheduler", "none\n");
  CHECK(server::nbd_device_scheduler(0, sys.path()) == "none");
  CHECK(server::nbd_device_scheduler(1, sys.path()) == "mq-deadline");
  CHECK_FALSE(server::nbd_device_scheduler(2, sys.path()));
  CHECK_FALSE(server::nbd_device_scheduler(3, sys.path()));
  CHECK(server::set_nbd_device_scheduler(2, "[no]", sys.path()) == 0);
  CHECK(server::nbd_device_scheduler(2, sys.path()) == "no");
  CHECK(server::set_nbd_device_scheduler(3, "none", sys.path()) == ENOENT);
}

TEST_CASE("what a device or a partition of it is part of is found") {
  const auto sys = test::TemporaryFolder();
  sys.write("nbd1/size", "8\n");
  sys.write("nbd1/holders/md0/uevent", "");
  sys.write("nbd1/nbd1p2/partition", "2\n");
  sys.write("nbd1/nbd1p2/holders/dm-3/uevent", "");
  sys.write("dm-3/dm/name", "secret\n");
  const auto uses = server::nbd_device_uses(1, "/nonexistent", "/nonexistent", sys.path());
  CHECK(uses == std::vector<std::string>{"/dev/nbd1 is part of /dev/md0",
                                         "/dev/nbd1p2 is part of /dev/dm-3 (secret)"});
}

TEST_CASE("a device may be named in several ways, and others are refused") {
  CHECK(server::parse_nbd_device("/dev/nbd7") == 7);
  CHECK(server::parse_nbd_device("nbd12") == 12);
  CHECK(server::parse_nbd_device("0") == 0);
  for (const auto* const name :
       {"", "nbd", "/dev/nbd", "/dev/sda", "/dev/nbd0p1", "-1", "nbd 1", "99999999999", "1048576"})
    CHECK_FALSE(server::parse_nbd_device(name));
}

TEST_CASE("the partitions of a device are found") {
  const auto sys = test::TemporaryFolder();
  sys.write("nbd1/size", "8\n");
  sys.write("nbd1/nbd1p12/partition", "12\n");
  sys.write("nbd1/nbd1p2/partition", "2\n");
  sys.write("nbd1/queue/logical_block_size", "512\n");
  CHECK(server::nbd_device_partitions(1, sys.path()) == std::vector<int>{2, 12});
  CHECK(server::nbd_device_partitions(2, sys.path()).empty());
}

TEST_CASE("mount points and swap of a device and its partitions are found") {
  const auto proc = test::TemporaryFolder();
  const auto mounts = proc.write("mounts",
                                 "/dev/nbd1 /mnt/whole ext4 rw 0 0\n"
                                 "/dev/nbd1p2 /mnt/part ext4 rw 0 0\n"
                                 "/dev/nbd12 /mnt/other ext4 rw 0 0\n"
                                 "proc /proc proc rw 0 0\n");
  const auto swaps = proc.write("swaps",
                                "Filename\tType\tSize\tUsed\tPriority\n"
                                "/dev/nbd1p3                partition\t1\t0\t-2\n");
  CHECK(server::nbd_device_uses(1, mounts, swaps) ==
        std::vector<std::string>{"/dev/nbd1 is mounted on /mnt/whole",
                                 "/dev/nbd1p2 is mounted on /mnt/part",
                                 "/dev/nbd1p3 is used as swap"});
  CHECK(server::nbd_device_uses(2, mounts, swaps).empty());
}
