"""The server is killed while requests are in flight, and is back 3 s later: what Debian's
nbd-client 3.24 does then with an export that it has mounted, as packaging/doc/attach.md says it.
"""

import signal
import time

import pytest

from rig import guest, network
from support import images

WRITE = "dd if=/dev/zero of=/mnt/file bs=4096 count=1 oflag=direct,sync status=none"
NEW = "dd if=/dev/nbd0 of=/dev/null bs=4096 count=1 skip=1000 iflag=direct status=none"


class Victim:
    """A guest with a mounted ext4, and a write in flight when the server is killed."""

    def __init__(self, machine, serve, folder, options):
        self.machine, self.serve = machine, serve
        self.image = images.make_sparse_image(folder / "disk.img", 32 * images.MIB)
        images.command("mke2fs", "-q", "-t", "ext4", self.image)
        self.server = serve(self.image)
        machine.run(f"""modprobe nbd
            nbd-client {options} -N disk.img {network.HOST_ADDRESS} /dev/nbd0
            mount /dev/nbd0 /mnt && echo durable >/mnt/before && sync""")

    def lose_server(self):
        self.server.signal(signal.SIGSTOP)  # so that the write does not come back
        self.machine.run(f"({WRITE}; echo $? >/tmp/status) </dev/null >/tmp/dd.log 2>&1 &")
        self.wait_for("read -r reads writes </sys/block/nbd0/inflight; ((reads + writes > 0))")
        self.server.kill()
        back = time.monotonic() + 3
        while time.monotonic() < back:  # an absence of this length is what is tested
            self.machine.run("true")
        self.server = self.serve(self.image)

    def wait_for(self, condition, seconds=60):
        self.machine.run(f"until {condition}; do sleep 0.1; done", timeout=seconds)

    def check_image(self):
        """All that was synced before is there; the rest is what the journal makes of it."""
        self.server.stop()
        with images.mounted("ext4", self.image, self.image.parent / "mnt", "loop") as root:
            assert (root / "before").read_text() == "durable\n"
        images.command("e2fsck", "-fn", self.image)


def test_without_a_timeout_new_requests_fail_and_those_in_flight_hang(net, serve, tmp_path):
    with guest.Guest(net=net) as machine:
        victim = Victim(machine, serve, tmp_path, "")
        victim.lose_server()
        for _ in range(5):  # the server is back; to the kernel it is not
            assert "Input/output error" in machine.run(NEW, check=False).stderr
        assert machine.run("[[ -e /tmp/status ]]", check=False).status == 1
        assert 'attached to "disk.img"' not in victim.server.log()
        # The way out.
        machine.run("nbd-client -d /dev/nbd0", check=False)
        victim.wait_for("[[ -s /tmp/status ]]")
        assert "Input/output error" in machine.stdout("cat /tmp/dd.log")
    victim.check_image()


@pytest.mark.parametrize("options", ["-t 5", "-t 5 -persist"])
def test_with_a_timeout_requests_in_flight_fail_too(net, serve, tmp_path, options):
    with guest.Guest(net=net) as machine:
        victim = Victim(machine, serve, tmp_path, options)
        victim.lose_server()
        victim.wait_for("[[ -s /tmp/status ]]")
        assert "Input/output error" in machine.stdout("cat /tmp/dd.log")
        assert "Input/output error" in machine.run(NEW, check=False).stderr
        assert 'attached to "disk.img"' not in victim.server.log()
    victim.check_image()


def test_persist_without_netlink_ends_and_does_not_come_back(net, serve, tmp_path):
    with guest.Guest(net=net) as machine:
        victim = Victim(machine, serve, tmp_path, "-L -persist")
        victim.lose_server()
        victim.wait_for("[[ -s /tmp/status ]]")
        assert "Input/output error" in machine.stdout("cat /tmp/dd.log")
        victim.wait_for("! pgrep nbd-client")
        assert 'attached to "disk.img"' not in victim.server.log()
    victim.check_image()


def test_after_a_server_was_restarted_the_device_can_be_attached_anew(net, serve, tmp_path):
    with guest.Guest(net=net) as machine:
        victim = Victim(machine, serve, tmp_path, "-t 5")
        victim.lose_server()
        victim.wait_for("[[ -s /tmp/status ]]")
        machine.run("umount /mnt; nbd-client -d /dev/nbd0", check=False)
        victim.wait_for("! nbd-client -c /dev/nbd0 >/dev/null")
        machine.run(f"""nbd-client -N disk.img {network.HOST_ADDRESS} /dev/nbd0
            e2fsck -fp /dev/nbd0; (($? <= 1)) && mount /dev/nbd0 /mnt""")
        assert machine.stdout("cat /mnt/before") == "durable"
        machine.run("umount /mnt && nbd-client -d /dev/nbd0")
