"""A disk that hangs holds up nobody but its own clients."""

import pathlib
import signal

import pytest

from support import images, tracing
from support.configuration import Configuration, export
from support.control import Control
from support.nbd_client import CMD_FLUSH, CMD_TRIM, CMD_WRITE_ZEROES, NO_HOLE

MIB = images.MIB
FLUSHES = 16  # more than a device or the server has threads of one kind


@pytest.fixture
def disk(tmp_path):
    """disk(name): an export that goes through the page cache, and with that through threads."""

    def make(name):
        path = images.make_sparse_image(tmp_path / f"{name}.img", 4 * MIB)
        return export(name, path, direct_io="off")

    return make


def under_way(control, name):
    connections = control.json("connections")["connections"]
    return sum(entry["in_flight"] for entry in connections if entry["export"] == name)


def threads(running):
    tasks = pathlib.Path(f"/proc/{running.pid}/task").iterdir()
    return [(task / "comm").read_text() for task in tasks]


def test_a_disk_that_hangs_in_flushes_holds_up_no_other_export_and_no_command(
    serve, disk, tmp_path
):
    exports = [disk("hung"), disk("sound")]
    configuration = Configuration(tmp_path / "loopnbd.toml", *exports)
    control = Control(tmp_path / "control.sock")
    running = serve("--config", configuration.path, "--control", control.path)
    hung, sound = running.client("hung"), running.client("sound")
    with tracing.calls_delayed(running, tmp_path / "hung.img", "fdatasync"):
        for cookie in range(FLUSHES):
            hung.request(CMD_FLUSH, cookie=cookie)
        running.wait_until(lambda: under_way(control, "hung") == FLUSHES)
        sound.write(MIB, bytes(range(256)) * 16)
        sound.flush()
        assert sound.error(CMD_TRIM, 0, MIB) == 0
        assert sound.error(CMD_WRITE_ZEROES, 2 * MIB, MIB, NO_HOLE) == 0
        configuration.reload(running, *exports, disk("further"))
        running.client("further").flush()
        control.text("add", "--no-lock", f"again={tmp_path}/sound.img")
        control.text("remove", "again")
        assert under_way(control, "hung") == FLUSHES
    assert {chunk.error for (chunk,) in hung.replies(FLUSHES).values()} == {0}


def test_a_second_signal_ends_a_server_whose_disk_hangs_in_the_last_sync(serve, disk, tmp_path):
    configuration = Configuration(tmp_path / "loopnbd.toml", disk("hung"))
    running = serve("--config", configuration.path)
    with running.client("hung") as client:
        client.write(0, bytes(4096))
    with tracing.calls_delayed(running, tmp_path / "hung.img", "fdatasync"):
        running.signal(signal.SIGTERM)
        running.wait_until(lambda: not any(name.startswith("worker") for name in threads(running)))
        running.signal(signal.SIGTERM)
    running.wait(-signal.SIGTERM)
