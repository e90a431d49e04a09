"""kill -9 in the middle of writes: what was acknowledged is there afterwards.

The writers fill numbered blocks with a number of their own and note each acknowledgement. A process
that is killed loses what it holds itself and not the page cache, so these tests show that the
server acknowledges nothing that is still in its own hands; that it reaches the disk is asked of the
kernel in the trace test.
"""

import re
import struct
import threading

import nbd
import pytest

from support import images
from support.server import WAIT_SECONDS

BLOCK = 4096
BLOCKS = 1024

pytestmark = [pytest.mark.bulk, pytest.mark.workers]


def block_of(writer, generation):
    return struct.pack(">II", writer, generation) * (BLOCK // 8)


class Writer(threading.Thread):
    """Writes to its share of the blocks, 16 requests in flight, until the connection breaks.

    Without `fua` every 50th request is a FLUSH; acknowledged_before_flush says what it must cover.
    """

    def __init__(self, uri, number, writers, fua):
        super().__init__()
        self.handle = nbd.NBD()
        self.handle.connect_uri(uri)
        self.number, self.writers, self.fua = number, writers, fua
        self.started = {}  # block -> newest generation sent
        self.acknowledged = {}  # block -> newest generation answered
        self.durable = {}  # block -> newest generation that must be there
        self.enough = threading.Event()
        self.failure = None

    def run(self):
        try:
            self.write_until_killed()
        except nbd.Error as error:
            if not self.handle.aio_is_dead() and not self.handle.aio_is_closed():
                self.failure = error
        except AssertionError as error:
            self.failure = error

    def write_until_killed(self):
        flags = nbd.CMD_FLAG_FUA if self.fua else 0
        for generation in range(1, 1 << 30):
            block = (generation * 7919 % (BLOCKS // self.writers)) * self.writers + self.number
            while self.handle.aio_in_flight() >= 16 or self.is_in_flight(block):
                self.handle.poll(-1)
            if not self.fua and generation % 50 == 0:
                self.flush()
            self.started[block] = generation
            buffer = nbd.Buffer.from_bytearray(bytearray(block_of(self.number, generation)))
            self.handle.aio_pwrite(
                buffer, block * BLOCK, completion=self.completion(block, generation), flags=flags
            )
            if generation == 500:
                self.enough.set()

    def is_in_flight(self, block):
        return self.started.get(block, 0) != self.acknowledged.get(block, 0)

    def completion(self, block, generation):
        def done(error):
            if error.value == 0:
                self.acknowledged[block] = generation
                if self.fua:
                    self.durable[block] = generation
            return 1

        return done

    def flush(self):
        covered = dict(self.acknowledged)

        def done(error):
            if error.value == 0:
                self.durable.update(
                    {
                        block: max(generation, self.durable.get(block, 0))
                        for block, generation in covered.items()
                    }
                )
            return 1

        self.handle.aio_flush(completion=done)


@pytest.mark.parametrize("direct_io", ["auto", "off"])
@pytest.mark.parametrize("fua", [True, False])
def test_what_was_acknowledged_before_kill_9_is_there_afterwards(serve, tmp_path, direct_io, fua):
    path = images.make_sparse_image(tmp_path / "disk.img", BLOCK * BLOCKS)
    server = serve("--direct-io", direct_io, path)
    writers = [Writer(server.uri(), number, 4, fua) for number in range(4)]
    for writer in writers:
        writer.start()
    for writer in writers:
        assert writer.enough.wait(WAIT_SECONDS)
    server.kill()
    for writer in writers:
        writer.join(WAIT_SECONDS)
        assert not writer.is_alive() and writer.failure is None, writer.failure
        assert writer.durable

    again = serve("--direct-io", direct_io, path)
    with again.client() as client:
        content = client.read(0, BLOCK * BLOCKS)
    for writer in writers:
        for block, generation in writer.durable.items():
            found = content[block * BLOCK : (block + 1) * BLOCK]
            number, stored = struct.unpack(">II", found[:8])
            assert (
                number == writer.number and generation <= stored <= writer.started[block]
            ), f"block {block}: generation {stored}, acknowledged was {generation}"
            assert found == block_of(number, stored), f"block {block} is torn"


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
        tracer = images.subprocess.Popen(
            [
                "strace",
                "-f",
                "-o",
                trace,
                "-p",
                str(server.pid),
                "-e",
                "trace=io_submit,fdatasync,fsync,sync_file_range,pwritev2,sendmsg,writev,write",
            ],
            stderr=images.subprocess.PIPE,
            text=True,
        )
        assert "attached" in tracer.stderr.readline()
        try:
            if kind == "flush":
                client.flush()
            else:
                client.write(0, b"b" * 4096, 1)
        finally:
            tracer.terminate()
            tracer.wait(WAIT_SECONDS)
    calls = trace.read_text()
    assert re.search(expected, calls), calls
