"""The client's machine loses power in the middle of writes: the server lets go of everything, and
all that was synced is there after the journal has been replayed.
"""

from rig import guest, network
from support import images

# One file after another, each synced; then its number goes where the test sees it.
WRITER = """number=0
while number=$((number + 1)); do
  yes "file $number" | head -c 20000 | dd of=/mnt/$number bs=20000 iflag=fullblock conv=fsync \
    status=none && echo $number >>/host/out/synced
done"""


def content(number):
    line = f"file {number}\n".encode()
    return (line * (20000 // len(line) + 1))[:20000]


def test_a_client_without_power_leaves_nothing_behind_and_loses_nothing_synced(
    net, serve, tmp_path
):
    image = images.make_sparse_image(tmp_path / "disk.img", 64 * images.MIB)
    images.command("mke2fs", "-q", "-t", "ext4", image)
    server = serve(image)
    idle = server.file_count()
    attach = f"modprobe nbd && nbd-client -N disk.img {network.HOST_ADDRESS} /dev/nbd0"
    with guest.Guest(net=net) as machine:
        machine.run(f"{attach} && mount /dev/nbd0 /mnt")
        machine.run(f"({WRITER}) </dev/null >/tmp/writer.log 2>&1 &")
        # Writes that are never synced, so that there is something in flight at any moment.
        machine.run("(while dd if=/dev/zero of=/mnt/zeroes bs=1M count=8; do :; done) >&- 2>&- &")
        machine.run("until (($(wc -l </host/out/synced) >= 10)); do sleep 0.1; done", timeout=120)
        machine.power_off()
        synced = [int(line) for line in (machine.host / "out" / "synced").read_text().split()]
    # The next one is there at once. The kernel of the first never said good-bye, so the server
    # learns from the network that it is gone; the second must not be made to wait for that.
    with guest.Guest(net=net) as machine:
        machine.run(f"{attach} && mount /dev/nbd0 /mnt", timeout=120)
        assert "recovery complete" in machine.stdout("dmesg")
        machine.run("cp /mnt/[0-9]* /host/out/ && umount /mnt && e2fsck -fn /dev/nbd0")
        machine.run("nbd-client -d /dev/nbd0")
        for number in synced:
            assert (machine.host / "out" / str(number)).read_bytes() == content(number), number
    assert len(synced) >= 10
    server.wait_until(lambda: server.file_count() == idle, "end of both connections", seconds=90)
    server.stop()
    images.command("e2fsck", "-fn", image)
