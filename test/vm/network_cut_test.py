"""The network between client and server is cut and mended: TCP sends again what was lost."""

import time

from rig import guest, network
from support import images


def test_a_short_cut_of_the_network_only_delays_writes(net, serve, tmp_path):
    image = images.make_sparse_image(tmp_path / "disk.img", 32 * images.MIB)
    images.command("mke2fs", "-q", "-t", "ext4", image)
    server = serve(image)
    with guest.Guest(net=net) as machine:
        machine.run(f"""modprobe nbd
            nbd-client -N disk.img {network.HOST_ADDRESS} /dev/nbd0 && mount /dev/nbd0 /mnt""")
        net.cut()
        machine.run("""(dd if=/dev/urandom of=/mnt/file bs=64k count=4 conv=fsync
            echo $? >/tmp/status) </dev/null >/tmp/dd.log 2>&1 &""")
        mended = time.monotonic() + 10
        while time.monotonic() < mended:  # a cut of this length is what is tested
            machine.run("[[ ! -e /tmp/status ]]")
        net.mend()
        machine.run("until [[ -s /tmp/status ]]; do sleep 0.1; done", timeout=120)
        assert machine.stdout("cat /tmp/status") == "0"
        seen = machine.stdout("sha256sum </mnt/file").split()[0]
        machine.run("umount /mnt && e2fsck -fn /dev/nbd0 && nbd-client -d /dev/nbd0")
    server.stop()
    with images.mounted("ext4", image, tmp_path / "mnt", "loop,ro") as root:
        assert images.sha256(root / "file") == seen
