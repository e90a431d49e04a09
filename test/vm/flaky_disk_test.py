"""The disk under the server's image fails, by dm-flakey: it refuses writes, or forgets them.

The server is in the guest, its client outside. The images are sparse and the file system commits
nothing by itself, so that a write which nobody made durable is not in the file after a cut.
"""

import pytest

from rig import durable, guest, network
from support.nbd_client import EIO, FUA

MODES = ["on", "off"]
PORTS = dict(zip(MODES, (10809, 10810)))  # of the servers, by their --direct-io

pytestmark = pytest.mark.shared_guest


@pytest.fixture(scope="module", name="machine")
def guest_with_flaky_disk(net):
    with guest.Guest(net=net) as machine:
        machine.run("""set -e
            modprobe nbd && modprobe dm-flakey
            sectors=$(blockdev --getsz $DISK)
            echo "0 $sectors linear $DISK 0" >/tmp/works
            for failure in drop_writes error_writes; do
              echo "0 $sectors flakey $DISK 0 0 1 1 $failure" >/tmp/$failure
            done
            dmsetup create disk /tmp/works && dmsetup mknodes""")
        yield machine


@pytest.fixture(name="writers")
def writers_on_a_fresh_file_system(machine, net):
    """Of a server in each mode, with 300 writes of all kinds behind them."""
    make_images(machine, "/dev/mapper/disk")
    start(machine, "/dev/mapper/disk")
    writers = {mode: writer_of(net, mode) for mode in MODES}
    yield {mode: writer.write_all_kinds(50).wait() for mode, writer in writers.items()}
    stop(machine)


def make_images(machine, device):
    machine.run(f"""mkfs.ext4 -q {device} && mkdir -p /srv/images && mount {device} /srv/images
        cd /srv/images && truncate -s {durable.SIZE} on.img off.img && cd && umount /srv/images""")


def start(machine, device):
    machine.run(f"mkdir -p /srv/images && mount -o commit=3600 {device} /srv/images")
    for mode, port in PORTS.items():
        listen = f"--listen {network.GUEST_ADDRESS}:{port} --listen unix:/run/{mode}"
        machine.run(f"""
            loopnbd serve --direct-io {mode} {listen} disk=/srv/images/{mode}.img \
                2>/tmp/{mode}.log & echo $! >/tmp/{mode}.pid
            until [[ -S /run/{mode} ]]; do sleep 0.1; done""")


def stop(machine):
    """Without a chance to finish anything."""
    for mode in MODES:
        machine.run(f"""kill -9 $(cat /tmp/{mode}.pid); rm -f /run/{mode}
            tail --pid=$(cat /tmp/{mode}.pid) -f /dev/null""")
    machine.run("umount /srv/images")


def writer_of(net, mode):
    return durable.Writer(net.connect((network.GUEST_ADDRESS, PORTS[mode])), "disk")


def missing(net, mode, blocks):
    return durable.missing(net.connect((network.GUEST_ADDRESS, PORTS[mode])), "disk", blocks)


def switch(machine, table):
    """The disk from now on. Data that the file system has not written yet stay there."""
    machine.run(f"""dmsetup suspend --nolockfs --noflush disk
        dmsetup reload disk /tmp/{table} && dmsetup resume disk""")


def start_again(machine):
    """On the disk as it is now, without what the kernel remembers of it."""
    stop(machine)
    switch(machine, "works")
    machine.run("blockdev --flushbufs /dev/mapper/disk")
    start(machine, "/dev/mapper/disk")


def test_a_disk_that_forgets_what_comes_has_all_that_was_durable_before(machine, net, writers):
    for writer in writers.values():
        for _ in range(10):
            writer.write()  # acknowledged, and nothing more
        writer.wait()
    switch(machine, "drop_writes")
    start_again(machine)
    for mode, writer in writers.items():
        assert not writer.errors
        assert len(writer.durable) > 200
        assert not missing(net, mode, writer.durable)
        assert missing(net, mode, writer.acknowledged - writer.durable)  # or nothing was cut


def test_a_disk_that_refuses_writes_is_told_to_clients_and_loses_nothing(machine, net, writers):
    machine.run("nbd-client -unix /run/on -N disk /dev/nbd0")
    before = {mode: set(writer.durable) for mode, writer in writers.items()}
    switch(machine, "error_writes")
    for mode, writer in writers.items():
        assert not writer.errors
        writer.write(FUA).wait()
        assert writer.errors == [EIO]
        writer.write().wait().flush().wait()
        assert len(writer.errors) > 1
        assert writer.durable == before[mode]
        assert not missing(net, mode, writer.durable)
    for options in ("oflag=direct", "conv=fsync"):
        told = machine.run(f"dd if=/dev/zero of=/dev/nbd0 bs=16k count=4 {options}", check=False)
        assert "Input/output error" in told.stderr, told
    machine.run("nbd-client -d /dev/nbd0")
    start_again(machine)
    for mode, writer in writers.items():
        assert not missing(net, mode, writer.durable)
