"""The server's machine loses power in the middle of writes and is started again: all that a client
elsewhere was told is durable is there. For the data that would have been lost at any other moment,
see power_cut_test.py.
"""

from flaky_disk_test import MODES, make_images, missing, start, writer_of
from rig import guest
from support import images


def test_a_server_without_power_in_mid_write_has_all_that_was_durable(net, tmp_path):
    disk = images.make_sparse_image(tmp_path / "disk", 512 * images.MIB)
    with guest.Guest(net=net, disk=disk) as machine:
        make_images(machine, "$DISK")
        start(machine, "$DISK")
        writers = {mode: writer_of(net, mode) for mode in MODES}
        for writer in writers.values():
            writer.write_all_kinds(50)  # the last of them are in flight
        machine.power_off()
    with guest.Guest(net=net, disk=disk) as machine:
        start(machine, "$DISK")
        for mode, writer in writers.items():
            assert not writer.errors
            assert len(writer.durable) > 200
            assert not missing(net, mode, writer.durable)
