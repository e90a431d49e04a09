"""Large writes at a great depth, on which the driver of 6.12 loses connections while the device has
an I/O scheduler: an interrupted send comes again under another tag. loopnbd attach goes without.
"""

import json

import pytest

from rig import guest

PAUSE_SECONDS = 30  # until the driver sends requests again

pytestmark = pytest.mark.shared_guest

# Writes that a signal interrupts a thousand times a second, as programs with a timer make them.
ALARMED_WRITES = r"""
import mmap, os, signal
signal.signal(signal.SIGALRM, lambda *_: None)
device = os.open("/dev/nbd0", os.O_WRONLY | os.O_DIRECT)
buffer = mmap.mmap(-1, 1 << 20)
signal.setitimer(signal.ITIMER_REAL, 0.001, 0.001)
for index in range(200):
    assert os.pwrite(device, buffer, (index % 64) << 20) == 1 << 20
signal.setitimer(signal.ITIMER_REAL, 0)
"""


@pytest.fixture(scope="module", name="machine", params=["uml", "newer-uml"])
def guest_with_a_device(request):
    with guest.Guest(kernel=request.param) as machine:
        machine.run("""mkfs.ext4 -q $DISK && mkdir -p /srv && mount $DISK /srv
            fallocate -l 256M /srv/disk.img""")
        yield machine


@pytest.fixture(autouse=True)
def attached(machine):
    machine.run("dmesg -C; loopnbd attach /srv/disk.img")
    yield
    machine.run("loopnbd detach /dev/nbd0")
    told = machine.stdout("dmesg")
    for words in ("Unexpected reply", "Double reply", "timed out", "cannot reconfigure"):
        assert words not in told, told


def test_the_device_has_no_scheduler(machine):
    assert "[none]" in machine.stdout("cat /sys/block/nbd0/queue/scheduler")


def test_writes_of_a_mebibyte_through_io_uring_meet_no_confused_reply(machine):
    machine.run(
        "qemu-img bench -w -f raw -t none -i io_uring -d 64 -s 1M -S 1M -c 1000 /dev/nbd0",
        timeout=240,
    )


def test_writes_of_fio_through_io_uring_meet_no_pause(machine):
    told = machine.stdout(
        """fio --name=large --filename=/dev/nbd0 --rw=randwrite --bs=1M --iodepth=64 --direct=1 \
            --ioengine=io_uring --size=256M --io_size=1G --output-format=json""",
        timeout=240,
    )
    (job,) = json.loads(told[told.index("{") :])["jobs"]
    assert job["error"] == 0
    assert job["write"]["clat_ns"]["max"] < PAUSE_SECONDS * 10**9


def test_writes_that_signals_interrupt_are_carried_out(machine):
    machine.run(f"python3 - <<'END'\n{ALARMED_WRITES}\nEND", timeout=240)
