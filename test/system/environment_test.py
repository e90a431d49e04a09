"""Surroundings that a shell or service manager hands over: closed streams and small limits."""

import fcntl
import os
import resource
import select
import subprocess
import time

import pytest

from support import images
from support.nbd_client import CMD_WRITE, ENOSPC, Client
from support.server import (
    WAIT_SECONDS,
    binary,
    connect,
    die_with_parent,
    environment,
    is_listening,
)


def run_with_closed_streams(streams, *arguments):
    """Runs the program to its end with these of 0, 1 and 2 closed, as `>&-` in a shell does."""
    closing = " ".join(f"{stream}>&-" for stream in streams)
    return subprocess.run(
        ["/bin/sh", "-c", f'exec "$@" {closing}', "sh", binary(), *map(str, arguments)],
        env=environment(),
        timeout=WAIT_SECONDS,
        check=False,
        stdin=subprocess.DEVNULL,
        capture_output=True,
    )


@pytest.mark.parametrize("streams", [(0,), (1,), (2,), (0, 1), (1, 2), (0, 1, 2)])
def test_closed_standard_streams_do_not_put_messages_into_the_image(tmp_path, image, streams):
    """An offset that direct I/O cannot have is worth a warning while the image is open."""
    content = image.read_bytes()
    config = tmp_path / "loopnbd.toml"
    config.write_text(f'[[export]]\npath = "{image}"\noffset = 100\n')
    assert run_with_closed_streams(streams, "check-config", config).returncode == 0
    assert image.read_bytes() == content
    served = run_with_closed_streams(streams, "serve", "--stdio", "--config", config)
    assert served.returncode == 0
    assert image.read_bytes() == content


def test_the_warnings_of_check_config_are_no_part_of_its_answer(tmp_path, image):
    config = tmp_path / "loopnbd.toml"
    config.write_text(f'[[export]]\npath = "{image}"\noffset = 100\n')
    result = run_with_closed_streams((), "check-config", config)
    assert result.stdout.decode() == f"{config}: the configuration is valid\n"
    assert b"multiple" in result.stderr


def test_a_log_that_nobody_reads_does_not_stop_the_server(tmp_path, image):
    address = str(tmp_path / "nbd.sock")
    reading, writing = os.pipe()
    fcntl.fcntl(writing, fcntl.F_SETPIPE_SZ, 4096)
    process = subprocess.Popen(
        [binary(), "serve", "--listen", f"unix:{address}", str(image)],
        env=environment(),
        stderr=writing,
        preexec_fn=die_with_parent,
    )
    os.close(writing)
    deadline = time.monotonic() + WAIT_SECONDS
    while not is_listening(address) and time.monotonic() < deadline:
        assert process.poll() is None
    for _ in range(50):
        with Client(connect(address)) as client:
            client.start()
            client.write(0, b"x" * 512)
            client.disconnect()
    os.set_blocking(reading, False)
    while select.select([reading], [], [], 0)[0]:
        assert os.read(reading, 65536)
    with Client(connect(address)) as client:
        client.start()
        assert client.read(0, 512) == b"x" * 512
    process.terminate()
    assert process.wait(WAIT_SECONDS) == 0
    with os.fdopen(reading, "rb") as rest:
        assert b"lines of this log were lost" in rest.read()


def test_a_small_soft_limit_of_open_files_does_not_limit_the_clients(
    serve, tmp_path, image, monkeypatch
):
    limited = tmp_path / "limited"
    limited.write_text(f'#!/bin/sh\nulimit -S -n 30\nexec {binary()} "$@"\n')
    limited.chmod(0o755)
    monkeypatch.setenv("LOOPNBD", str(limited))
    running = serve(image)
    clients = [running.client() for _ in range(40)]
    for client in clients:
        assert client.read(0, 512) == image.read_bytes()[:512]
        client.close()


@pytest.mark.parametrize("direct_io", ["on", "off"])
def test_a_limit_of_the_file_size_is_enospc_and_not_the_end(serve, tmp_path, direct_io):
    """RLIMIT_FSIZE comes with a signal that ends whoever does not expect it."""
    path = images.make_sparse_image(tmp_path / "disk.img", 4 << 20)
    running = serve("--direct-io", direct_io, path)
    resource.prlimit(running.pid, resource.RLIMIT_FSIZE, (1 << 20, 1 << 20))
    with running.client() as client:
        client.write(0, b"x" * 4096)
        assert client.error(CMD_WRITE, 2 << 20, 4096, payload=b"y" * 4096) == ENOSPC
        assert client.error(CMD_WRITE, 3 << 20, 5000, payload=b"y" * 5000) == ENOSPC
        assert client.read(0, 4096) == b"x" * 4096
        assert client.read(2 << 20, 4096) == bytes(4096)
