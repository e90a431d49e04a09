"""nbd-client and the kernel's driver against an export: sizes, blocks, connections, permissions."""

import contextlib

import pytest

from rig import guest, network
from support import images

HOST = network.HOST_ADDRESS
SIZE = 8 * images.MIB

pytestmark = pytest.mark.shared_guest


@pytest.fixture(scope="module", params=["uml", "newer-uml"])
def machine(net, request):
    with guest.Guest(net=net, kernel=request.param) as running:
        running.run("modprobe nbd nbds_max=4 max_part=8")
        yield running


@pytest.fixture
def aligned_devices(serve, tmp_path):
    """Block devices with 512-byte and 4096-byte blocks, served as "512" and "4096"."""
    with contextlib.ExitStack() as attached:
        devices = {}
        for alignment in (512, 4096):
            image = images.make_image(tmp_path / f"{alignment}.img", SIZE, seed=alignment)
            loop = images.loop_device(image, "--sector-size", str(alignment), "--direct-io=on")
            devices[alignment] = attached.enter_context(loop)
        # Ends before the devices do: after it nobody may hold them.
        server = serve(*(f"{alignment}={device}" for alignment, device in devices.items()))
        yield devices
        server.stop()


@pytest.mark.parametrize("block", [512, 4096])
@pytest.mark.parametrize("alignment", [512, 4096])
def test_every_block_size_over_every_alignment(machine, aligned_devices, alignment, block):
    device = aligned_devices[alignment]
    expected = bytearray(device.read_bytes())
    machine.run(f"nbd-client -N {alignment} -b {block} {HOST} /dev/nbd0")
    told = machine.stdout("blockdev --getss --getsize64 /dev/nbd0").split()
    assert told == [str(block), str(SIZE)]
    (machine.host / "files" / "new").write_bytes(images.random_bytes(SIZE // 8, seed=block))
    new = (machine.host / "files" / "new").read_bytes()
    # One block in the middle of nowhere, some that cross the server's blocks, and a large one.
    for first, length in ((7, 1), (17, 3), (129, 13), (512, SIZE // 8 // block)):
        machine.run(
            f"dd if=/host/files/new of=/dev/nbd0 bs={block * length} count=1 seek={first * block}"
            " oflag=direct,seek_bytes conv=notrunc,fsync status=none"
        )
        expected[first * block : (first + length) * block] = new[: length * block]
    machine.run("dd if=/dev/nbd0 of=/host/out/read bs=1M iflag=direct status=none")
    machine.run("nbd-client -d /dev/nbd0")
    assert (machine.host / "out" / "read").read_bytes() == expected
    assert device.read_bytes() == expected


def test_a_read_only_export_is_written_by_nobody(machine, serve, tmp_path):
    image = images.make_image(tmp_path / "disk.img", images.MIB)
    before = images.sha256(image)
    server = serve("--read-only", image)
    machine.run(f"nbd-client -N disk.img {HOST} /dev/nbd0")
    assert machine.stdout("blockdev --getro /dev/nbd0") == "1"
    write = "dd if=/dev/zero of=/dev/nbd0 bs=4096 count=1 oflag=direct"
    assert "Operation not permitted" in machine.run(write, check=False).stderr
    assert machine.stdout("sha256sum </dev/nbd0").split()[0] == before
    machine.run("nbd-client -d /dev/nbd0")
    server.stop()
    assert images.sha256(image) == before


def test_of_an_odd_size_the_kernel_sees_the_whole_sectors(machine, serve, tmp_path):
    size = images.MIB + 513
    image = images.make_image(tmp_path / "disk.img", size)
    expected = bytearray(image.read_bytes())
    serve(image)
    # Newer kernels refuse to write what is no whole block.
    blocks = (512, 4096) if machine.stdout("uname -r").startswith("6.1.") else (512,)
    for block in blocks:
        machine.run(f"nbd-client -b {block} -N disk.img {HOST} /dev/nbd0")
        assert machine.stdout("blockdev --getsize64 /dev/nbd0") == str(images.MIB + 512)
        # The last sector, which is no whole block of 4096.
        text = f"last sector, {block}"
        machine.run(f"echo '{text}' | dd of=/dev/nbd0 bs=512 seek=2048 conv=notrunc,fsync")
        expected[images.MIB : images.MIB + len(text) + 1] = f"{text}\n".encode()
        machine.run("dd if=/dev/nbd0 of=/host/out/read bs=64k && nbd-client -d /dev/nbd0")
        assert (machine.host / "out" / "read").read_bytes() == expected[: images.MIB + 512]
        assert image.read_bytes() == expected


def test_discard_gives_space_back_and_zeroing_zeroes(machine, serve, tmp_path):
    image = images.make_image(tmp_path / "disk.img", SIZE)
    expected = bytearray(image.read_bytes())
    full = image.stat().st_blocks
    serve(image)
    machine.run(f"""nbd-client -N disk.img {HOST} /dev/nbd0
        blkdiscard --offset 1M --length 2M /dev/nbd0
        blkdiscard --zeroout --offset 4608 --length 64K /dev/nbd0
        nbd-client -d /dev/nbd0""")
    expected[images.MIB : 3 * images.MIB] = bytes(2 * images.MIB)
    expected[4608 : 4608 + 65536] = bytes(65536)
    assert image.read_bytes() == expected
    # The file system may need a block of its own for more extents than before.
    assert full - image.stat().st_blocks >= (2 * images.MIB - 4096) // 512


def test_partitions_appear_as_devices(machine, serve, tmp_path):
    (tmp_path / "files").mkdir()
    (tmp_path / "files" / "hello").write_text("from a partition")
    image = tmp_path / "disk.img"
    _, length = images.make_partitioned_image(image, tmp_path / "files", SIZE)
    serve(image)
    # The driver looks for them when the device is opened for the first time; udev would do that.
    machine.run(f"nbd-client -N disk.img {HOST} /dev/nbd0 && blockdev --getsize64 /dev/nbd0")
    assert machine.stdout("blockdev --getsize64 /dev/nbd0p1") == str(length)
    seen = machine.stdout("mount -o ro /dev/nbd0p1 /mnt && cat /mnt/hello && umount /mnt")
    assert seen == "from a partition"
    # And those that are made through the device.
    table = "label: dos\\nstart=2048, size=2048\\n,\\n"
    machine.run(f"printf '{table}' | sfdisk --wipe always /dev/nbd0")
    assert machine.stdout("echo /dev/nbd0p*") == "/dev/nbd0p1 /dev/nbd0p2"
    machine.run("nbd-client -d /dev/nbd0")
    assert images.command("sfdisk", "--dump", image).count("start=") == 2


def test_a_grown_image_is_seen_by_the_next_client_of_a_restarted_server(machine, serve, tmp_path):
    image = images.make_image(tmp_path / "disk.img", SIZE)
    server = serve(image)
    machine.run(f"nbd-client -N disk.img {HOST} /dev/nbd0")
    with open(image, "r+b") as file:
        file.truncate(2 * SIZE)
    assert machine.stdout("blockdev --getsize64 /dev/nbd0") == str(SIZE)
    machine.run("nbd-client -d /dev/nbd0")
    server.stop()
    serve(image)
    machine.run(f"nbd-client -N disk.img {HOST} /dev/nbd0")
    assert machine.stdout("blockdev --getsize64 /dev/nbd0") == str(2 * SIZE)
    machine.run("nbd-client -d /dev/nbd0")


def test_a_unix_socket_in_the_guest_over_a_disk_with_4096_byte_blocks(machine):
    machine.run("""modprobe sd_mod
        modprobe scsi_debug sector_size=4096 dev_size_mb=64 lbpu=1 delay=0
        until [[ -b /dev/sda ]]; do :; done
        loopnbd serve --listen unix:/run/nbd.sock data=/dev/sda >/tmp/server.log 2>&1 &
        echo $! >/tmp/server.pid
        until [[ -S /run/nbd.sock ]]; do :; done
        nbd-client -unix /run/nbd.sock -N data /dev/nbd1
        mkfs.ext4 -q -b 4096 /dev/nbd1 && mount /dev/nbd1 /mnt && cp -a /etc /mnt && sync
        diff -r --no-dereference /etc /mnt/etc && umount /mnt && e2fsck -fn /dev/nbd1""")
    assert machine.stdout("blockdev --getss /dev/nbd1 /dev/sda").split() == ["512", "4096"]
    machine.run("nbd-client -d /dev/nbd1; kill $(cat /tmp/server.pid)")
    # Without the server between them: the kernel's own view of the disk.
    machine.run("""e2fsck -fn /dev/sda && mount /dev/sda /mnt &&
        diff -r --no-dereference /etc /mnt/etc""")
