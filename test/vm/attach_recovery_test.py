"""An attached device survives: the end of our own process, of the server behind an nbd://
address, of its network, and a machine without memory. In each case a file system is mounted on the
device and its writes are verified, and it must not see an error.
"""

import pytest

from rig import guest

# Writes that are read back and compared while they go on; the checksums are per 4 KiB.
FIO = """fio --name=verified --directory=/mnt/disk --size=1M --rw=randwrite --bs=4k --iodepth=8 \
    --direct=1 --ioengine=libaio --verify=crc32c --verify_backlog=64 --verify_fatal=1 \
    --fallocate=none --fsync=32 --output=/tmp/fio.log"""

# Fills so much memory, page by page, and compares all of it.
HOLD = """
import sys
pages = range(int(sys.argv[1]) >> 2)
held = [page.to_bytes(4096, "big") for page in pages]
assert all(held[page] == page.to_bytes(4096, "big") for page in pages)
"""

# No line of these may be in the kernel's log.
ERRORS = "I/O error|aborted journal|Remounting filesystem read-only|XFS.*(error|shutdown)"


def write_and_verify(disturbance):
    """A script: round after round of fio on /mnt/disk, and a `disturbance` meanwhile, which may
    wait for more (rounds NUMBER) and for a request without a reply (in_flight). At least one whole
    round follows it. Beside it the same blocks are written again and again: what was written last
    must stay, and no older write come after it.
    """
    return f"""
        rm -f /tmp/enough && echo >/tmp/done
        while [[ ! -e /tmp/enough ]]; do {FIO} || exit; echo >>/tmp/done; done &
        writer=$!
        while [[ ! -e /tmp/enough ]]; do
          yes $((++generation)) | head -c 16384 >/tmp/newest
          dd if=/tmp/newest of=/mnt/disk/newest bs=4k conv=notrunc oflag=direct status=none || exit
          sleep 0.5
        done &
        overwriter=$!
        rounds() {{
          local goal=$(($(wc -l </tmp/done) + $1))
          until (($(wc -l </tmp/done) >= goal)); do kill -0 $writer; sleep 0.1; done
        }}
        in_flight() {{
          until read -r reads writes </sys/block/nbd0/inflight && ((reads + writes > 0)); do
            kill -0 $writer
          done
        }}
        set -e
        rounds 1
        dd if=/dev/urandom of=/mnt/disk/acknowledged bs=64k count=16 conv=fsync status=none
        sha256sum /mnt/disk/acknowledged >/tmp/sum
        {disturbance}
        rounds 2
        touch /tmp/enough
        wait $writer
        wait $overwriter
        echo 3 >/proc/sys/vm/drop_caches
        cmp /tmp/newest /mnt/disk/newest
        sha256sum --quiet -c /tmp/sum"""


def no_error_was_seen(machine, device="/dev/nbd0"):
    told = machine.run(f"dmesg | grep -E '{ERRORS}'", check=False)
    assert told.status == 1, told.stdout
    machine.run(f"umount /mnt/disk && fsck.ext4 -fn {device} && loopnbd detach {device}")


def with_disk(machine):
    machine.run("""
        mkfs.ext4 -q $DISK && mkdir -p /srv /mnt/disk && mount $DISK /srv
        truncate -s 128M /srv/disk.img && mkfs.ext4 -q /srv/disk.img""")
    return machine


@pytest.fixture(name="machine")
def guest_with_disk():
    with guest.Guest() as machine:
        yield with_disk(machine)


@pytest.mark.parametrize("connections", [1, 2])
def test_a_killed_process_is_replaced_by_one_with_the_same_arguments(machine, connections):
    attach = f"loopnbd attach --timeout 3 --connections {connections} /srv/disk.img"
    machine.run(f"{attach} && mount /dev/nbd0 /mnt/disk")
    kill = """
        in_flight
        kill -9 $(loopnbd devices --json | grep -o '"pid":[0-9]*' | cut -d: -f2)
        loopnbd devices | grep -v process"""
    again = f"test $({attach}) = /dev/nbd0"
    machine.run(write_and_verify(f"{kill}; {again}; rounds 2; {kill}; {again}"), 240)
    machine.run("loopnbd devices | grep process")
    no_error_was_seen(machine)
    machine.run("fsck.ext4 -fn /srv/disk.img")


def test_without_a_timeout_requests_of_a_killed_process_are_sent_again_as_well(machine):
    attach = "loopnbd attach /srv/disk.img"
    machine.run(f"{attach} && mount /dev/nbd0 /mnt/disk")
    machine.run(write_and_verify(f"in_flight; pkill -9 -x loopnbd; {attach}"), 240)
    no_error_was_seen(machine)


def test_nobody_takes_over_with_another_file_or_one_that_has_shrunk(machine):
    machine.run("loopnbd attach /srv/disk.img && cp /srv/disk.img /srv/copy.img")
    machine.run("pkill -9 -x loopnbd; while pgrep -x loopnbd; do sleep 0.1; done")
    assert machine.stdout("loopnbd attach /srv/copy.img") == "/dev/nbd1"
    refused = machine.run("loopnbd attach --device /dev/nbd0 /srv/copy.img", check=False)
    assert refused.status == 1
    machine.run("truncate -s 64M /srv/disk.img")
    refused = machine.run("loopnbd attach /srv/disk.img", check=False)
    assert "has shrunk" in refused.stderr
    refused = machine.run("loopnbd attach --read-only /srv/disk.img", check=False)
    assert "for writing" in refused.stderr
    machine.run("truncate -s 128M /srv/disk.img && loopnbd attach /srv/disk.img")
    machine.run("loopnbd detach /dev/nbd0 && loopnbd detach /dev/nbd1")


def test_a_disk_slower_than_the_timeout_delays_requests_but_loses_none(machine):
    # The kernel gives the connection up, and gets a new one from the same process.
    machine.run("""
        umount /srv && echo "0 $(blockdev --getsz $DISK) delay $DISK 0 0 $DISK 0 0" >/tmp/table
        dmsetup create slow </tmp/table && dmsetup mknodes && mount /dev/mapper/slow /srv
        loopnbd attach --timeout 2 /srv/disk.img && mount /dev/nbd0 /mnt/disk""")
    slow = 'sed "s/ 0$/ 5000/" /tmp/table | dmsetup reload slow && dmsetup resume slow'
    fast = "dmsetup reload slow /tmp/table && dmsetup resume slow"
    given_up = "until dmesg | grep 'Connection timed out, retrying'; do sleep 0.1; done"
    machine.run(write_and_verify(f"{slow}; {given_up}; {fast}"), 240)
    no_error_was_seen(machine)


@pytest.fixture(name="small_machine")
def guest_with_little_memory():
    # The other kind of guest, with memory of its own, cannot do without memory.
    with guest.Guest(kernel="qemu", memory_mib=256) as machine:
        yield with_disk(machine)


def test_dirty_pages_are_written_out_when_there_is_no_memory_left(small_machine):
    # More than the guest has left, by way of the page cache, beside programs that take all of it
    # until the kernel kills them. The process behind the device must neither wait for the pages
    # that it is to write nor be killed.
    machine = small_machine
    machine.run("loopnbd attach /srv/disk.img && mount /dev/nbd0 /mnt/disk")
    pid = machine.stdout("pgrep -x loopnbd")
    assert machine.stdout(f"cat /proc/{pid}/oom_score_adj") == "-1000"
    assert int(machine.stdout(f"grep VmLck /proc/{pid}/status").split()[1]) > 50_000
    assert int(machine.stdout(f"grep VmRSS /proc/{pid}/status").split()[1]) < 100_000
    machine.run(
        """
        (while test ! -e /tmp/enough; do tail /dev/zero; done) 2>/dev/null &
        head -c 40M /dev/urandom >/srv/content
        for round in 1 2 3; do
          dd if=/srv/content of=/mnt/disk/file bs=1M conv=fsync status=none || exit 1
          cmp /srv/content /mnt/disk/file || exit 1
        done
        touch /tmp/enough; wait""",
        300,
    )
    assert int(machine.stdout("dmesg | grep -c 'Killed process.*(tail)'")) > 0
    assert machine.stdout("pgrep -x loopnbd") == pid
    no_error_was_seen(machine)


def test_the_device_can_be_swap_space(small_machine):
    machine = small_machine
    refused = machine.run("loopnbd attach --swap /srv/disk.img", check=False)
    assert "sysctl vm.min_free_kbytes=16384" in refused.stderr
    machine.run("sysctl -q vm.min_free_kbytes=16384")
    refused = machine.run("loopnbd attach --swap /srv/disk.img", check=False)
    assert "it has holes" in refused.stderr
    fill = refused.stderr.strip().partition("zeroes by: ")[2]
    machine.run(f"{fill} status=none && sync")
    machine.run("""
        loopnbd attach --swap /srv/disk.img && mkswap /dev/nbd0 && swapon /dev/nbd0""")
    available = machine.stdout("awk '/MemAvailable/ {print $2}' /proc/meminfo")
    machine.run(f"python3 -c '{HOLD}' {int(available) + (24 << 10)}", 240)
    swapped = machine.stdout("awk '/pswpin|pswpout/ {print $2}' /proc/vmstat").split()
    assert all(int(pages) > 1000 for pages in swapped)
    refused = machine.run("loopnbd detach /dev/nbd0", check=False)
    assert "used as swap" in refused.stderr
    machine.run("swapoff /dev/nbd0 && loopnbd detach /dev/nbd0")
