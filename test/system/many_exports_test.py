"""Exports cost the machine something only while they have clients."""

import pathlib

import pytest

from support import images, server
from support.configuration import Configuration, export


def contexts(running):
    """How many contexts of asynchronous I/O the server has: each is a mapping of its own."""
    maps = pathlib.Path(f"/proc/{running.pid}/maps").read_text()
    return sum("[aio]" in line for line in maps.splitlines())


def test_an_export_has_a_context_of_asynchronous_io_only_while_it_has_clients(serve, tmp_path):
    paths = [images.make_sparse_image(tmp_path / f"{index}.img", images.MIB) for index in range(20)]
    exports = [export(f"e{index}", path) for index, path in enumerate(paths)]
    configuration = Configuration(tmp_path / "loopnbd.toml", *exports)
    running = serve("--config", configuration.path)
    if running.wait_for_log('export "e7": .* (direct|buffered) I/O').group(1) != "direct":
        pytest.skip("no direct I/O here")
    assert contexts(running) == 0
    with running.client("e7") as client, running.client("e8") as other:
        client.write(0, bytes(4096))
        other.read(0, 4096)
        assert contexts(running) == 2
    running.wait_until(lambda: contexts(running) == 0, "no context")
    with running.client("e7") as client:
        client.write(4096, bytes(4096))
        assert contexts(running) == 1


def test_more_exports_than_the_system_has_room_for_are_named_before_there_are_clients(tmp_path):
    limit = int(pathlib.Path("/proc/sys/fs/aio-max-nr").read_text())
    workers = 64
    count = limit // workers // 32 + 1  # no queue is shorter than 32
    if count > 100:
        pytest.skip("the system has room for many more")
    paths = [images.make_sparse_image(tmp_path / f"{index}.img", 4096) for index in range(count)]
    exports = [export(f"e{index}", path) for index, path in enumerate(paths)]
    head = f'workers = {workers}\nmemory = "4G"\n'
    configuration = Configuration(tmp_path / "loopnbd.toml", *exports, head=head)
    done = server.run("check-config", configuration.path)
    assert done.returncode == 0, done.stderr
    assert "fs.aio-max-nr" in done.stderr and "sysctl" in done.stderr, done.stderr
