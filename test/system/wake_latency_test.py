"""`wake_latency_us`: the machine's processors stay awake while clients are at work, no longer."""

import os
import pathlib
import struct

import pytest

from support import server as servers

DEVICE = pathlib.Path("/dev/cpu_dma_latency")


@pytest.fixture
def device(root_only):
    if not DEVICE.exists():
        pytest.skip(f"this kernel has no {DEVICE}")


def limit_us():
    """The limit that the kernel keeps to now: the least that any process has asked for."""
    with DEVICE.open("rb", buffering=0) as file:
        return struct.unpack("i", file.read(4))[0]


def work_until(running, client, condition):
    """Reads without a pause until `condition` holds."""

    def holds_after_some_reads():
        for _ in range(10):
            client.read(0, 512)
        return condition()

    running.wait_until(holds_after_some_reads, "the limit")


# Tests beside this one may set a limit, too: each has a number of its own.
def test_processors_are_kept_awake_only_while_a_client_is_at_work(serve, image, device):
    running = serve("--wake-latency-us", "3", "--user", "nobody", image)
    assert limit_us() != 3
    with running.client() as client:
        assert limit_us() != 3
        work_until(running, client, lambda: limit_us() == 3)
        # The client stays, and asks for nothing.
        running.wait_until(lambda: limit_us() != 3, "the end of the limit")
        work_until(running, client, lambda: limit_us() == 3)
    running.wait_until(lambda: limit_us() != 3, "the end of the limit")


def test_a_server_that_dies_leaves_no_limit(serve, image, device):
    running = serve("--wake-latency-us", "2", image)
    with running.client() as client:
        work_until(running, client, lambda: limit_us() == 2)
        running.kill()
    assert limit_us() != 2


def test_a_limit_that_cannot_be_had_is_refused_with_the_reason_and_what_to_do(image, root_only):
    os.chmod(image.parent, 0o755)
    os.chmod(image, 0o666)
    config = image.parent / "loopnbd.toml"
    config.write_text(
        f'listen = ["127.0.0.1:0"]\nwake_latency_us = 0\n[[export]]\npath = "{image}"\n'
    )
    for arguments in (("serve", "--config", config), ("check-config", config)):
        result = servers.run(*arguments, user=4242, group=4242)
        assert result.returncode == 1
        for words in ("wake_latency_us", str(DEVICE), "as root", "leave"):
            assert words in result.stderr
