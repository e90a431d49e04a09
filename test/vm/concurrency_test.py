"""Several connections used at once: a guest with several processors."""

from rig import guest, network
from support import images


def test_four_connections_with_four_processors_see_one_disk(net, serve, tmp_path):
    image = images.make_image(tmp_path / "disk.img", 16 * images.MIB)
    server = serve(image)
    with guest.Guest(kernel="qemu", processors=4, net=net) as machine:
        machine.run("modprobe nbd nbds_max=4 max_part=8")
        machine.run(f"nbd-client -C 4 -N disk.img {network.HOST_ADDRESS} /dev/nbd0")
        assert server.log().count('attached to "disk.img"') == 4, server.log()
        assert machine.stdout("ls /sys/block/nbd0/mq | wc -l") == "4"
        machine.run(
            "fio --name=v --filename=/dev/nbd0 --rw=randwrite --bsrange=512-64k --size=4M"
            " --offset_increment=4M --numjobs=4 --direct=1 --ioengine=libaio --iodepth=16"
            " --verify=crc32c --verify_fatal=1 --thread --end_fsync=1",
            timeout=200,
        )
        seen = machine.stdout("sha256sum </dev/nbd0").split()[0]
        machine.run("nbd-client -d /dev/nbd0")
    server.stop()
    assert seen == images.sha256(image)
