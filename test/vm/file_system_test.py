"""File systems on an export: what was put in there is there, for the guest and for the machine that
has the image. The driver of 6.12 ("newer-uml") sends WRITE_ZEROES, that of 6.1 does not.
"""

from rig import guest, network
from support import images

CHECKS = {
    "ext4": ["e2fsck", "-fn"],
    "xfs": ["xfs_repair", "-n"],
    "btrfs": ["btrfs", "check", "--readonly"],
}
# The smallest that xfs and btrfs take.
SIZE = 320 * images.MIB


def du(image):
    return image.stat().st_blocks * 512


def test_an_ext4_file_system_holds_what_was_put_into_it(net, serve, tmp_path):
    fill_and_compare("ext4", net, serve, tmp_path, "uml")


def test_an_xfs_file_system_holds_what_was_put_into_it(net, serve, tmp_path):
    fill_and_compare("xfs", net, serve, tmp_path, "newer-uml")


def test_a_btrfs_file_system_holds_what_was_put_into_it(net, serve, tmp_path):
    fill_and_compare("btrfs", net, serve, tmp_path, "newer-uml")


def fill_and_compare(kind, net, serve, tmp_path, kernel):
    image = images.make_sparse_image(tmp_path / "disk.img", SIZE)
    server = serve(image)
    check = " ".join(CHECKS[kind])
    with guest.Guest(net=net, kernel=kernel) as machine:
        machine.run(f"""modprobe nbd max_part=8
            nbd-client -N disk.img {network.HOST_ADDRESS} /dev/nbd0
            mkfs.{kind} -q /dev/nbd0 && mount /dev/nbd0 /mnt
            mkdir /mnt/tree && cp -a /etc /usr/lib/python3.11 /mnt/tree/""")
        machine.run(
            "fio --name=v --filename=/mnt/verified --rw=randwrite --bsrange=4k-64k --size=4M"
            " --direct=1 --ioengine=libaio --iodepth=16 --verify=crc32c --verify_fatal=1"
            " --end_fsync=1",
            timeout=120,
        )
        machine.run(
            "mkdir /mnt/stress && stress-ng --temp-path /mnt/stress --verify --timeout 60"
            " --hdd 1 --hdd-bytes 2M --hdd-ops 20 --rename 1 --rename-ops 100"
            " --dir 1 --dir-ops 50 --link 1 --link-ops 1 --fallocate 1 --fallocate-bytes 2M"
            " --fallocate-ops 10",
            timeout=120,
        )
        # Nothing but the server's memory is left when the guest reads it again.
        machine.run("sync && echo 3 >/proc/sys/vm/drop_caches")
        machine.run("diff -r --no-dereference /etc /mnt/tree/etc")
        machine.run("sync && dd if=/dev/urandom of=/mnt/large bs=1M count=16 conv=fsync")
        before = du(image)
        machine.run("rm /mnt/large && sync && fstrim /mnt && sync")
        assert before - du(image) >= 12 * images.MIB, (before, du(image))
        machine.run(
            "cp -a /usr/lib/python3.11 /host/out/ && cp -a /mnt/verified /host/out/ && umount /mnt"
        )
        machine.run(f"{check} /dev/nbd0 && nbd-client -d /dev/nbd0")
        expected = images.hashes_of_folder(machine.host / "out")
    server.stop()
    images.command(*CHECKS[kind], image)
    with images.mounted(kind, image, tmp_path / "mnt", "loop,ro") as root:
        found = images.hashes_of_folder(root / "tree" / "python3.11")
        found = {f"python3.11/{name}": value for name, value in found.items()}
        found["verified"] = images.sha256(root / "verified")
        assert found == expected
        assert len(found) > 100
