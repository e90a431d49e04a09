"""loopnbd attach FILE: a file as a local block device, in a guest with the kernel's driver."""

import json

import pytest

from rig import guest

MIB = 1 << 20

pytestmark = pytest.mark.shared_guest


@pytest.fixture(scope="module", name="machine", params=["uml", "newer-uml"])
def guest_with_files(request):
    """One guest for all tests here, with two kernels. /srv: ext4 on a disk, so that direct I/O is
    possible.
    """
    with guest.Guest(kernel=request.param) as machine:
        machine.run("mkfs.ext4 -q $DISK && mkdir -p /srv && mount $DISK /srv")
        yield machine


@pytest.fixture(autouse=True)
def nothing_stays_attached(machine):
    yield
    assert devices(machine) == []
    machine.run("rm -rf /srv/* && ! pgrep loopnbd")


def devices(machine):
    return json.loads(machine.stdout("loopnbd devices --json"))


def refused(machine, command):
    """The message of a command that must fail with status 1."""
    ended = machine.run(command, check=False)
    assert ended.status == 1, f"{command}: {ended}"
    return ended.stderr


def test_without_the_kernels_module_attach_says_what_to_do(machine):
    machine.run("mkdir /tmp/none && mount --bind /tmp/none /lib/modules && truncate -s 1M /srv/a")
    try:
        told = refused(machine, "loopnbd attach /srv/a")
        assert "modprobe nbd" in told
        assert "linux-image" in told
        assert devices(machine) == []
    finally:
        machine.run("umount /lib/modules")


def test_a_file_is_attached_listed_and_detached(machine):
    machine.run("truncate -s 64M /srv/disk.img && cd /srv && loopnbd attach disk.img >/tmp/name")
    name = machine.stdout("cat /tmp/name")
    assert name == "/dev/nbd0"
    (entry,) = devices(machine)
    pid = entry.pop("pid")
    assert entry == {
        "device": name,
        "backend": "/srv/disk.img",
        "size_bytes": 64 * MIB,
        "block_size_bytes": 512,
        "read_only": False,
    }
    line = f"{name}  /srv/disk.img  {64 * MIB} bytes, process {pid}\n"
    assert machine.run("loopnbd devices").stdout == line
    assert machine.stdout(f"tr '\\0' ' ' </proc/{pid}/cmdline") == "loopnbd attach disk.img"
    assert machine.stdout(f"readlink /proc/{pid}/cwd") == "/"
    # Through the page cache of the device and past that of the file.
    machine.run(f"""
        seq 1000000 | head -c 4M >/tmp/content
        dd if=/tmp/content of={name} bs=64k seek=16 status=none
        loopnbd detach {name}
        ! kill -0 {pid} 2>/dev/null
        cmp -n {4 * MIB} -i {MIB}:0 /srv/disk.img /tmp/content""")


@pytest.mark.parametrize("block_size", [512, 4096])
def test_the_device_has_the_properties_of_the_export(machine, block_size):
    machine.run("truncate -s 10000000 /srv/disk.img")
    machine.run(f"loopnbd attach --block-size {block_size} --device /dev/nbd3 /srv/disk.img")
    assert machine.stdout("blockdev --getss --getpbsz --getro /dev/nbd3").split() == [
        str(block_size),
        str(block_size),
        "0",
    ]
    size = 10000000 // block_size * block_size
    assert machine.stdout("blockdev --getsize64 /dev/nbd3") == str(size)
    queue = "/sys/block/nbd3/queue"
    assert machine.stdout(f"cat {queue}/write_cache {queue}/fua").split() == ["write", "back", "1"]
    assert int(machine.stdout(f"cat {queue}/discard_max_bytes")) > 0
    machine.run("loopnbd detach nbd3")


def test_what_is_discarded_becomes_a_hole_in_the_file(machine):
    machine.run("""
        head -c 8M /dev/urandom >/srv/disk.img && sync /srv/disk.img
        loopnbd attach /srv/disk.img && blkdiscard /dev/nbd0 && loopnbd detach /dev/nbd0
        test $(stat -c %b /srv/disk.img) -lt 100 && cmp -n 8388608 /srv/disk.img /dev/zero""")


def test_a_read_only_device_refuses_writes_and_may_be_attached_twice(machine):
    machine.run("""
        seq 100000 >/srv/disk.img && truncate -s 1M /srv/disk.img && cp /srv/disk.img /srv/before
        loopnbd attach --read-only /srv/disk.img && loopnbd attach --read-only /srv/disk.img
        cmp /dev/nbd0 /srv/before && cmp /dev/nbd1 /srv/before
        ! dd if=/dev/zero of=/dev/nbd0 bs=4k count=1 oflag=direct 2>/dev/null""")
    assert [entry["read_only"] for entry in devices(machine)] == [True, True]
    machine.run("loopnbd detach /dev/nbd0 && loopnbd detach /dev/nbd1")
    machine.run("cmp /srv/disk.img /srv/before")


def test_an_index_beyond_those_of_the_module_is_made_and_goes_again(machine):
    machine.run("truncate -s 1M /srv/disk.img && ! test -e /dev/nbd77")
    assert machine.stdout("loopnbd attach --device /dev/nbd77 /srv/disk.img") == "/dev/nbd77"
    machine.run("dd if=/dev/nbd77 of=/dev/null bs=1M count=1 status=none")
    machine.run("loopnbd detach /dev/nbd77 && ! test -e /dev/nbd77")


def test_partitions_appear_and_what_is_mounted_is_not_detached(machine):
    machine.run("""
        truncate -s 64M /srv/disk.img
        printf 'size=20M\\nsize=20M\\n' | sfdisk -q /srv/disk.img
        loopnbd attach /srv/disk.img && mkfs.ext4 -q /dev/nbd0p2
        mkdir -p /mnt/part && mount /dev/nbd0p2 /mnt/part && seq 1000 >/mnt/part/numbers""")
    told = refused(machine, "loopnbd detach /dev/nbd0")
    assert "/dev/nbd0p2 is mounted on /mnt/part" in told
    machine.run("""
        test $(tail -1 /mnt/part/numbers) = 1000 && umount /mnt/part && loopnbd detach /dev/nbd0
        ! test -e /dev/nbd0p1""")


def test_what_is_made_of_the_device_is_named_when_it_cannot_be_detached(machine):
    machine.run("""
        truncate -s 64M /srv/disk.img && loopnbd attach /srv/disk.img
        echo "0 2048 linear /dev/nbd0 0" | dmsetup create part""")
    told = refused(machine, "loopnbd detach /dev/nbd0")
    assert "/dev/nbd0 is part of /dev/dm-0 (part)" in told
    machine.run("dmsetup remove part && loopnbd detach /dev/nbd0")


@pytest.mark.parametrize("end", ["loopnbd detach /dev/nbd0", "kill -TERM {pid}"])
@pytest.mark.parametrize("connections", [1, 3])
def test_the_kernel_has_no_complaint_about_a_detach(machine, end, connections):
    machine.run(f"""
        truncate -s 64M /srv/disk.img && dmesg -C
        loopnbd attach --connections {connections} /srv/disk.img""")
    (entry,) = devices(machine)
    machine.run(end.format(**entry))
    machine.run("while pgrep loopnbd; do sleep 0.1; done")
    assert "reconfigure" not in machine.stdout("dmesg")


@pytest.mark.parametrize("option, scheduler", [("", "none"), ("--keep-scheduler", None)])
def test_the_device_has_no_scheduler_unless_the_kernels_is_to_be_kept(machine, option, scheduler):
    machine.run("modprobe nbd; truncate -s 1M /srv/disk.img")
    before = machine.stdout("sed 's/.*\\[\\(.*\\)\\].*/\\1/' /sys/block/nbd0/queue/scheduler")
    machine.run(f"loopnbd attach {option} /srv/disk.img")
    found = machine.stdout("cat /sys/block/nbd0/queue/scheduler")
    machine.run("loopnbd detach /dev/nbd0")
    assert f"[{scheduler or before}]" in found


@pytest.mark.parametrize("connections", [1, 3])
@pytest.mark.parametrize("file_system", ["ext4", "xfs"])
def test_a_file_system_on_it_survives_verified_writes_and_a_check(
    machine, file_system, connections
):
    check = {"ext4": "fsck.ext4 -fn", "xfs": "xfs_repair -n"}[file_system]
    machine.run(
        f"""
        truncate -s 320M /srv/disk.img
        loopnbd attach --connections {connections} /srv/disk.img
        mkfs.{file_system} -q /dev/nbd0 && mkdir -p /mnt/disk && mount /dev/nbd0 /mnt/disk
        fio --name=verified --filename=/mnt/disk/file --size=24M --rw=randwrite --bsrange=512-64k \
            --ba=512 --direct=1 --ioengine=libaio --iodepth=16 --fsync=50 --verify=crc32c \
            --fallocate=none --do_verify=1 --verify_fatal=1 --output=/tmp/fio.log
        cp -a /usr/share/doc /usr/bin /mnt/disk/ && fstrim /mnt/disk
        umount /mnt/disk && loopnbd detach /dev/nbd0
        {check} /srv/disk.img
        loopnbd attach --read-only /srv/disk.img && mount -o ro /dev/nbd0 /mnt/disk
        diff -r --no-dereference /usr/bin /mnt/disk/bin
        umount /mnt/disk && loopnbd detach /dev/nbd0""",
        timeout=240,
    )


def test_in_the_foreground_it_stays_until_it_is_told_to_end(machine):
    machine.run("""
        truncate -s 8M /srv/disk.img && mkfs.ext4 -q /srv/disk.img && mkdir -p /mnt/disk
        mkfifo /tmp/ready
        loopnbd attach --foreground /srv/disk.img >/tmp/ready 2>/tmp/errors &
        read device </tmp/ready && test $device = /dev/nbd0
        mount $device /mnt/disk && seq 1000 >/mnt/disk/numbers
        kill -TERM $!
        until grep -q 'going on' /tmp/errors; do sleep 0.1; done
        grep 'is mounted on /mnt/disk' /tmp/errors
        test $(tail -1 /mnt/disk/numbers) = 1000
        umount /mnt/disk
        kill -TERM $! && wait $!""")
    assert "detached" in machine.stdout("tail -1 /tmp/errors")


def test_what_stands_in_the_way_is_said(machine):
    machine.run("truncate -s 1M /srv/a /srv/b && truncate -s 100 /srv/small && mkdir /srv/folder")
    machine.run("loopnbd attach /srv/a")
    (entry,) = devices(machine)
    pid = entry["pid"]
    busy = refused(machine, "loopnbd attach --device /dev/nbd0 /srv/b")
    assert f"/dev/nbd0 is in use by process {pid}" in busy
    again = refused(machine, "loopnbd attach /srv/a")
    assert f"attached already: it is /dev/nbd0, by process {pid}" in again
    assert "attached already" in refused(machine, "loopnbd attach --read-only /srv/a")
    assert "is locked" in machine.run("timeout 5 loopnbd serve /srv/a", check=False).stderr
    assert "100 bytes" in refused(machine, "loopnbd attach /srv/small")
    assert "it is a directory" in refused(machine, "loopnbd attach /srv/folder")
    assert "truncate -s 10G" in refused(machine, "loopnbd attach /srv/none")
    user = "setpriv --reuid=1000 --clear-groups loopnbd"
    assert "root" in refused(machine, f"{user} attach /srv/b")
    assert "not attached" in refused(machine, "loopnbd detach /dev/nbd5")
    machine.run("loopnbd detach /dev/nbd0")


def test_a_device_of_another_program_is_left_alone(machine):
    machine.run("""
        truncate -s 1M /srv/a /srv/b
        modprobe nbd
        loopnbd serve --listen unix:/tmp/socket /srv/a 2>/tmp/log & echo $! >/tmp/pid
        until test -S /tmp/socket; do sleep 0.1; done
        nbd-client -unix /tmp/socket -N a /dev/nbd0 >/dev/null""")
    told = refused(machine, "loopnbd attach --device /dev/nbd0 /srv/b")
    assert "in use by another program" in told
    assert "is locked" in refused(machine, "loopnbd attach /srv/a")
    assert machine.stdout("loopnbd attach /srv/b") == "/dev/nbd1"
    machine.run("loopnbd detach /dev/nbd1; nbd-client -d /dev/nbd0; kill $(cat /tmp/pid)")
    machine.run("while kill -0 $(cat /tmp/pid) 2>/dev/null; do sleep 0.1; done")
