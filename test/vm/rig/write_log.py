"""Reads what the device-mapper target log-writes has recorded, and plays it back step by step.

The format is in the kernel's Documentation/admin-guide/device-mapper/log-writes.rst: a super block,
then entries, each in a sector of its own with its data in the sectors after it; a mark's text is in
the entry's sector. Writes are there in the order in which they became durable: each follows the
FLUSH that covered it, or its own FUA.
"""

import dataclasses
import struct

MAGIC = 0x6A736677736872
SUPER = struct.Struct("<QQQI")
ENTRY = struct.Struct("<QQQQ")
FLUSH, FUA, DISCARD, MARK = 1, 2, 4, 8


@dataclasses.dataclass
class Entry:
    flags: int
    offset: int  # bytes
    length: int
    data_offset: int  # in the file with the log
    mark: str


def entries(path, start):
    """The entries of the log that begins at byte `start` of the file."""
    with open(path, "rb") as file:
        file.seek(start)
        magic, version, count, sector_size = SUPER.unpack(file.read(SUPER.size))
        assert (magic, version) == (MAGIC, 1), "no log of log-writes"
        position = start + sector_size
        for _ in range(count):
            file.seek(position)
            sector, sectors, flags, text_length = ENTRY.unpack(file.read(ENTRY.size))
            mark = file.read(text_length).decode() if flags & MARK else ""
            length = sectors * sector_size
            position += sector_size
            yield Entry(flags, sector * sector_size, length, position, mark)
            if not flags & DISCARD:
                position += length


def replay(path, start, target):
    """Plays the log into the file `target`, which has the state before the log; yields each entry
    when it is done.
    """
    with open(path, "rb") as log, open(target, "r+b", buffering=0) as disk:
        for entry in entries(path, start):
            if entry.length:
                log.seek(entry.data_offset)
                empty = entry.flags & DISCARD
                disk.seek(entry.offset)
                disk.write(bytes(entry.length) if empty else log.read(entry.length))
            yield entry
