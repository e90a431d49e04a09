"""kill -9 in the middle of writes: what was acknowledged is there afterwards.

The writers fill numbered blocks with a number of their own and note each acknowledgement. A process
that is killed loses what it holds itself and not the page cache, so these tests show that the
server acknowledges nothing that is still in its own hands; that it reaches the disk is asked of the
kernel in the trace test.
"""

import re
import threading

import pytest

from support import images, tracing
from support.server import WAIT_SECONDS
from support.writers import BLOCK, BLOCKS, check_content, start_writers, wait_for_end

pytestmark = [pytest.mark.bulk, pytest.mark.workers]


@pytest.mark.parametrize("direct_io", ["auto", "off"])
@pytest.mark.parametrize("fua", [True, False])
def test_what_was_acknowledged_before_kill_9_is_there_afterwards(serve, tmp_path, direct_io, fua):
    path = images.make_sparse_image(tmp_path / "disk.img", BLOCK * BLOCKS)
    server = serve("--direct-io", direct_io, path)
    writers = start_writers(server, 4, fua)
    server.kill()
    wait_for_end(writers)
    assert all(writer.durable for writer in writers)
    again = serve("--direct-io", direct_io, path)
    with again.client() as client:
        content = client.read(0, BLOCK * BLOCKS)
    check_content(content, writers)


def test_fio_writing_when_the_server_is_killed_leaves_a_servable_image(serve, tmp_path):
    """fio ends with an error of its connection; the image opens again, its lock gone with the
    process.
    """
    path = images.make_sparse_image(tmp_path / "disk.img", 64 << 20)
    server = serve(path)
    failed = threading.Thread(
        target=lambda: pytest.raises(
            AssertionError,
            lambda: images.command(
                "fio",
                "--name=job",
                "--ioengine=nbd",
                f"--uri={server.uri()}",
                "--rw=randwrite",
                "--bs=4k",
                "--size=64M",
                "--iodepth=32",
                "--time_based",
                "--runtime=60",
            ),
        )
    )
    failed.start()
    with server.client() as client:  # until fio has written something
        server.wait_until(lambda: client.read(0, 1 << 20) != bytes(1 << 20), "fio's first writes")
    server.kill()
    failed.join(WAIT_SECONDS)
    assert not failed.is_alive()
    with serve(path).client() as client:
        for offset in range(0, 64 << 20, 16 << 20):
            assert len(client.read(offset, 16 << 20)) == 16 << 20


@pytest.mark.parametrize(
    "direct_io, expected",
    [
        (
            "auto",
            r"io_submit\(.*(RWF_DSYNC|IOCB_CMD_FDSYNC|FDSYNC)|fdatasync|pwritev2\(.*RWF_DSYNC",
        ),
        ("off", r"fdatasync|pwritev2\(.*RWF_DSYNC|io_submit\(.*FDSYNC"),
    ],
)
@pytest.mark.parametrize("kind", ["flush", "fua"])
def test_flush_and_fua_ask_the_kernel_for_durability_before_the_reply(
    serve, image, tmp_path, direct_io, expected, kind
):
    """strace sees the request for durability between the write and the reply to the client."""
    server = serve("--direct-io", direct_io, "--workers", "1", image)
    trace = tmp_path / "trace"
    with server.client() as client:
        client.write(0, b"a" * 4096)
        durability = ("io_submit", "fdatasync", "fsync", "sync_file_range", "pwritev2")
        with tracing.system_calls(server, trace, *durability, "sendmsg", "writev", "write"):
            if kind == "flush":
                client.flush()
            else:
                client.write(0, b"b" * 4096, 1)
    calls = trace.read_text()
    assert re.search(expected, calls), calls
