#include "server/config/container_limits.h"

#include <catch2/catch.hpp>
#include <string>

#include "test/support/temporary_folder.h"

using server::ContainerLimits;
using server::read_container_limits;
using test::TemporaryFolder;

namespace {

constexpr auto v2_mounts =
    "24 1 0:21 / / rw - ext4 /dev/vda rw\n"
    "31 24 0:27 / /sys/fs/cgroup rw,nosuid - cgroup2 cgroup2 rw,nsdelegate\n";
constexpr auto v1_mounts =
    "32 31 0:29 / /sys/fs/cgroup/cpu,cpuacct rw shared:9 - cgroup cgroup rw,cpu,cpuacct\n"
    "35 31 0:32 / /sys/fs/cgroup/memory rw shared:10 - cgroup cgroup rw,memory\n";

}  // namespace

TEST_CASE("without control groups there are no limits") {
  const auto tree = TemporaryFolder();
  CHECK(read_container_limits(tree.path()) == ContainerLimits{});
}

TEST_CASE("cgroup v2: a container sees its own group as the root") {
  const auto tree = TemporaryFolder();
  tree.write("proc/self/mountinfo", v2_mounts);
  tree.write("proc/self/cgroup", "0::/\n");
  tree.write("sys/fs/cgroup/memory.max", "134217728\n");
  tree.write("sys/fs/cgroup/cpu.max", "150000 100000\n");
  CHECK(read_container_limits(tree.path()) == ContainerLimits{128U << 20, 2});
}

TEST_CASE("cgroup v2: the tightest limit on the way to the root counts") {
  const auto tree = TemporaryFolder();
  tree.write("proc/self/mountinfo", v2_mounts);
  tree.write("proc/self/cgroup", "0::/system.slice/loopnbd.service\n");
  tree.write("sys/fs/cgroup/system.slice/loopnbd.service/memory.max", "max\n");
  tree.write("sys/fs/cgroup/system.slice/loopnbd.service/cpu.max", "400000 100000\n");
  tree.write("sys/fs/cgroup/system.slice/memory.max", "67108864\n");
  tree.write("sys/fs/cgroup/system.slice/cpu.max", "max 100000\n");
  CHECK(read_container_limits(tree.path()) == ContainerLimits{64U << 20, 4});
}

TEST_CASE("cgroup v1: memory and quota come from their own hierarchies") {
  const auto tree = TemporaryFolder();
  tree.write("proc/self/mountinfo", v1_mounts);
  tree.write("proc/self/cgroup", "4:memory:/pod/c1\n1:cpu,cpuacct:/pod/c1\n9:name=systemd:/\n");
  tree.write("sys/fs/cgroup/memory/pod/c1/memory.limit_in_bytes", "9223372036854771712\n");
  tree.write("sys/fs/cgroup/memory/pod/memory.limit_in_bytes", "33554432\n");
  tree.write("sys/fs/cgroup/cpu,cpuacct/pod/c1/cpu.cfs_quota_us", "50000\n");
  tree.write("sys/fs/cgroup/cpu,cpuacct/pod/c1/cpu.cfs_period_us", "100000\n");
  tree.write("sys/fs/cgroup/cpu,cpuacct/pod/cpu.cfs_quota_us", "-1\n");
  tree.write("sys/fs/cgroup/cpu,cpuacct/pod/cpu.cfs_period_us", "100000\n");
  CHECK(read_container_limits(tree.path()) == ContainerLimits{32U << 20, 1});
}

TEST_CASE("cgroup v1: the container's group is mounted, and named from the host's view") {
  const auto tree = TemporaryFolder();
  tree.write("proc/self/mountinfo",
             "35 31 0:32 /pod/c1 /sys/fs/cgroup/memory ro - cgroup cgroup rw,memory\n");
  tree.write("proc/self/cgroup", "4:memory:/pod/c1\n");
  tree.write("sys/fs/cgroup/memory/memory.limit_in_bytes", "33554432\n");
  CHECK(read_container_limits(tree.path()).memory == 32U << 20);
}

TEST_CASE("both versions mounted: each line of proc/self/cgroup is looked up in its own") {
  const auto tree = TemporaryFolder();
  tree.write("proc/self/mountinfo",
             std::string(v1_mounts) + "41 31 0:38 / /sys/fs/cgroup/unified rw - cgroup2 none rw\n");
  tree.write("proc/self/cgroup", "4:memory:/a\n0::/b\n");
  tree.write("sys/fs/cgroup/memory/a/memory.limit_in_bytes", "50000000\n");
  tree.write("sys/fs/cgroup/memory/b/memory.limit_in_bytes", "1\n");
  tree.write("sys/fs/cgroup/unified/b/memory.max", "40000000\n");
  CHECK(read_container_limits(tree.path()).memory == 40000000);
}

TEST_CASE("what makes no sense is no limit") {
  for (const auto* const text : {"", "max", "-1", "0", "junk", "99999999999999999999999"}) {
    CAPTURE(text);
    const auto tree = TemporaryFolder();
    tree.write("proc/self/mountinfo", std::string("short\n 1 2 -\n") + v2_mounts);
    tree.write("proc/self/cgroup", "nonsense\n0:\n0::/../..\n0::\n");
    tree.write("sys/fs/cgroup/memory.max", text);
    tree.write("sys/fs/cgroup/cpu.max", std::string(text) + " 100000");
    tree.write("memory.max", "4096");
    CHECK(read_container_limits(tree.path()) == ContainerLimits{});
  }
  const auto tree = TemporaryFolder();
  tree.write("proc/self/mountinfo", v2_mounts);
  tree.write("proc/self/cgroup", "0::/\n");
  tree.write("sys/fs/cgroup/cpu.max", "100000 0\n");
  CHECK(read_container_limits(tree.path()) == ContainerLimits{});
}
