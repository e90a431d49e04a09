"""Writers that note what was acknowledged, so that it can be looked for when the server has ended.

They fill numbered blocks of a disk, BLOCKS of BLOCK bytes, with a number of their own.
"""

import struct
import threading

import nbd

from support.server import WAIT_SECONDS

BLOCK = 4096
BLOCKS = 1024


def block_of(writer, generation):
    return struct.pack(">II", writer, generation) * (BLOCK // 8)


class Writer(threading.Thread):
    """Writes to its share of the blocks, 16 requests in flight, until the connection ends.

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
            self.write_until_the_end()
        except nbd.Error as error:
            if not self.handle.aio_is_dead() and not self.handle.aio_is_closed():
                self.failure = error
        except AssertionError as error:
            self.failure = error

    def write_until_the_end(self):
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


def start_writers(server, count, fua=False):
    """So many, each of which has had some hundred acknowledgements."""
    writers = [Writer(server.uri(), number, count, fua) for number in range(count)]
    for writer in writers:
        writer.start()
    for writer in writers:
        assert writer.enough.wait(WAIT_SECONDS)
    return writers


def wait_for_end(writers):
    """The server has ended their connections."""
    for writer in writers:
        writer.join(WAIT_SECONDS)
        assert not writer.is_alive() and writer.failure is None, writer.failure
        assert writer.acknowledged


def check_content(content, writers):
    """Each block has what was acknowledged last, or what was sent after it; all of it."""
    for writer in writers:
        for block, generation in writer.acknowledged.items():
            found = content[block * BLOCK : (block + 1) * BLOCK]
            number, stored = struct.unpack(">II", found[:8])
            assert (
                number == writer.number and generation <= stored <= writer.started[block]
            ), f"block {block}: generation {stored}, acknowledged was {generation}"
            assert found == block_of(number, stored), f"block {block} is torn"
