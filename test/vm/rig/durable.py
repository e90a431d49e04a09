"""A client that knows which of its writes must survive whatever happens: those with FUA that were
acknowledged, and those that had been acknowledged when a FLUSH was sent that was acknowledged, too.
Each block of an image is written once at most, so a block holds its own content or nothing.
"""

import random

from support import nbd_client
from support.nbd_client import CMD_FLUSH, CMD_WRITE, FUA

BLOCK = 16 << 10
COUNT = 2048
SIZE = BLOCK * COUNT
IN_FLIGHT_MAX = 16


class Writer:
    """Of one connection to one export."""

    def __init__(self, connection, export_name):
        self.client = nbd_client.Client(connection).start(export_name)
        self.acknowledged, self.durable, self.errors = set(), set(), []
        self._written = 0
        self._sent = {}  # cookie -> the blocks that are durable once it is acknowledged

    def write(self, flags=0):
        """Sends a write of the next block, which lies somewhere else."""
        block = self._written * 333 % COUNT
        self._written += 1
        cookie = self.client.request(CMD_WRITE, block * BLOCK, BLOCK, flags, content(block))
        self._sent[cookie] = (block, {block} if flags & FUA else set())
        return self

    def flush(self):
        self._sent[self.client.request(CMD_FLUSH)] = (None, set(self.acknowledged))
        return self

    def wait(self, in_flight=0):
        """For replies, until so few requests are without one."""
        while len(self._sent) > in_flight:
            (reply,) = self.client.reply()
            block, made_durable = self._sent.pop(reply.cookie)
            if reply.error:
                self.errors.append(reply.error)
                continue
            if block is not None:
                self.acknowledged.add(block)
            self.durable |= made_durable
        return self

    def write_all_kinds(self, rounds):
        """Some with FUA, some with a FLUSH after them; the last ones are still in flight."""
        for _ in range(rounds):
            for flags in (0, 0, FUA, 0, 0, 0):
                self.write(flags).wait(IN_FLIGHT_MAX)
            self.flush()
        return self


def content(block):
    return random.Random(block).randbytes(BLOCK)


def missing(connection, export_name, blocks):
    """The blocks that do not hold what was written there."""
    with nbd_client.Client(connection).start(export_name) as client:
        return {block for block in blocks if client.read(block * BLOCK, BLOCK) != content(block)}
